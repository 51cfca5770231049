"""`python -m tests.bench.turns`: where an engine's time goes, beside mlx-lm's own batch generator.

Both run in this process, one after the other and in turns, on the first layers of the embedded model, without HTTP and
text: what is told apart are passes over prompts, steps, and of omlx's time what MLX computes and what Python does.
Run it where the BLAS is as for the server: it starts itself again with the server's environment.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, GenerationBatch, PromptProcessingBatch
from mlx_lm.sample_utils import make_sampler

from omlx.server.engine.blas import engine_environment
from omlx.server.engine.engine import Engine
from omlx.server.engine.loaded_batch import load_batch
from omlx.server.engine.messages import Submit
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.models.loading import load_model
from omlx.server.requests import SamplingParams

from ..e2e.embedded import import_embedded_model
from .cut_model import cut


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that arrives after so many seconds."""

    after: float
    num_prompt: int
    num_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(slots=True)
class Spent:
    """CPU seconds by what they went to, and how often: on a busy machine they say more than a clock."""

    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def timing(self, *places: tuple[Any, str, str]) -> Iterator[None]:
        """Time every call meanwhile: of which owner's function by which name, and what it counts for."""
        with ExitStack() as undo:
            for place in places:
                undo.callback(self._wrap(*place))
            yield

    def _wrap(self, owner: Any, name: str, what: str) -> Callable[[], None]:
        """Time every call of the owner's function from now on, until the result is called."""
        plain = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return plain(*args, **kwargs)
            finally:
                self.seconds[what] = self.seconds.get(what, 0.0) + time.process_time() - started
                self.counts[what] = self.counts.get(what, 0) + 1

        setattr(owner, name, timed)
        return lambda: setattr(owner, name, plain)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: on the clock, of the CPU, to first tokens in the mean and of the request that came last; and of the CPU
    the most between two tokens of one request."""

    wall: float
    cpu: float
    first: float
    last_first: float
    gap: float


@dataclass(frozen=True, slots=True)
class Result:
    times: Times
    spent: Spent

    def text(self) -> str:
        times, counts = self.times, self.spent.counts
        parts = ", ".join(f"{what} {seconds:.2f} s ({counts[what]})" for what, seconds in self.spent.seconds.items())
        first = f"TTFT {times.first:.3f} s in the mean, {times.last_first:.3f} of the last"
        return (
            f"{times.wall:.2f} s, {first}; CPU {times.cpu:.2f} s, {times.gap:.3f} between two tokens, of which {parts}"
        )


WORKLOADS: dict[str, list[Ask]] = {
    "16 staggered, sampled": [Ask(0.3 * n, 60 + 1440 * (n * 7 % 16) // 15, 32, 0.7, 0.9) for n in range(16)],
    "16 staggered, greedy": [Ask(0.3 * n, 60 + 1440 * (n * 7 % 16) // 15, 32) for n in range(16)],
    "2,000 and seven of 100 at once": [Ask(0, n, 4) for n in (2000, *[100] * 7)],
    "4 running streams, and 4,000 arrive": [*(Ask(0, 40, 100, 0.7) for _ in range(4)), Ask(3, 4000, 1)],
    "8 equal streams": [Ask(0, 90, 34) for _ in range(8)],
    "16 equal streams": [Ask(0, 90, 34) for _ in range(16)],
}


def tokens_of(ask: Ask, seed: int) -> list[int]:
    return [100 + (seed * 7919 + place * place * 31 + place * seed) % 20_000 for place in range(ask.num_prompt)]


def run(asks: Sequence[Ask], submit: Callable[[int, Ask], None], turn: Callable[[], Iterator[int]]) -> Times:
    """Submit each when it arrives, and take turns until all have ended.

    `turn` yields whose token came, once for each.
    """
    left, first, last = [ask.num_tokens for ask in asks], dict[int, float](), dict[int, float]()
    gap = 0.0
    waiting = list(range(len(asks)))
    started, cpu = time.perf_counter(), time.process_time()
    while any(left):
        now = time.perf_counter() - started
        while waiting and asks[waiting[0]].after <= now:
            submit(waiting[0], asks[waiting[0]])
            waiting.pop(0)
        if all(not left[index] for index in range(len(asks)) if index not in waiting):
            time.sleep(max(0.0, asks[waiting[0]].after - now))
            continue
        for index in turn():
            came = time.perf_counter() - started
            first.setdefault(index, came - asks[index].after)
            gap = max(gap, (now := time.process_time()) - last.get(index, now))
            last[index] = now
            left[index] -= 1
    wall = time.perf_counter() - started
    return Times(wall, time.process_time() - cpu, fmean(first.values()), first[len(asks) - 1], gap)


def run_omlx(batch: MlxBatch, asks: Sequence[Ask], seed: int) -> Result:
    limits = SchedulerLimits(max_chunk=batch.info.max_chunk)
    engine, spent = Engine(Scheduler(limits), batch, time.perf_counter), Spent()

    def submit(index: int, ask: Ask) -> None:
        sampling = SamplingParams(temperature=ask.temperature, top_p=ask.top_p, seed=index)
        engine.submit(Submit(str(index), tokens_of(ask, seed + index), ask.num_tokens, sampling=sampling))

    def turn() -> Iterator[int]:
        for update in engine.step().updates:
            assert not update.error, update.error
            yield from [int(update.request_id)] * len(update.token_ids)

    with spent.timing(
        (batch, "prefill", "pieces"),
        (batch, "prefill_together", "pieces together"),
        (batch, "decode", "steps"),
        (mx, "eval", "MLX"),
        (batch, "_read", "MLX"),
    ):
        return Result(run(asks, submit, turn), spent)


def run_mlx_lm(model: Any, asks: Sequence[Ask], seed: int) -> Result:
    generator, spent = BatchGenerator(model, max_tokens=1 << 20), Spent()
    indexes: dict[int, int] = {}

    def submit(index: int, ask: Ask) -> None:
        sampler = make_sampler(ask.temperature, top_p=ask.top_p)
        (uid,) = generator.insert([tokens_of(ask, seed + index)], [ask.num_tokens], samplers=[sampler])
        indexes[uid] = index

    def turn() -> Iterator[int]:
        yield from (indexes[response.uid] for response in generator.next()[1])

    with (
        closing(generator),
        spent.timing(
            (PromptProcessingBatch, "prompt", "prompts"),
            (PromptProcessingBatch, "generate", "first tokens"),
            (GenerationBatch, "next", "steps"),
        ),
    ):
        return Result(run(asks, submit, turn), spent)


@contextmanager
def _undrafted() -> Iterator[None]:
    """Random tokens repeat nothing, but greedy answers of a few layers do."""
    plain = MlxBatch.draft
    MlxBatch.draft = lambda self: {}  # noqa: ARG005
    try:
        yield
    finally:
        MlxBatch.draft = plain


def main() -> None:
    environment = engine_environment(os.environ)
    if "LD_PRELOAD" in environment and "LD_PRELOAD" not in os.environ:
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.turns", *sys.argv[1:]], environment)
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--only", default="", help="workloads whose name has this in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = cut(import_embedded_model(), options.layers, Path(folder))
        batch, plain = load_batch(model, prefix_bytes=0), load_model(model).model
        while batch.idle():
            pass
        for name, asks in WORKLOADS.items():
            if options.only not in name:
                continue
            found: dict[str, list[Result]] = {"omlx": [], "mlx-lm": []}
            for number in range(options.rounds):
                with _undrafted():
                    found["omlx"].append(run_omlx(batch, asks, 1000 * number))
                found["mlx-lm"].append(run_mlx_lm(plain, asks, 1000 * number))
            print(f"{name}, load {os.getloadavg()[0]:.0f}")
            for who, results in found.items():
                typical = sorted(results, key=lambda result: result.times.wall)[len(results) // 2]
                print(f"  {who}: {typical.text()}")
            ratios = (f"{what} {_ratio(found, what):.2f}" for what in Times.__slots__)
            print(f"  mlx-lm over omlx: {', '.join(ratios)}", flush=True)


def _ratio(found: dict[str, list[Result]], what: str) -> float:
    ours, theirs = (median(getattr(result.times, what) for result in results) for results in found.values())
    return theirs / ours


if __name__ == "__main__":
    main()
