"""`make compare`: omlx beside its peers, row by row of `scenarios`, in one run.

Every round starts each server once, alone, and in turning order; all serve the same folder, compute with the same
BLAS and answer the same prompts. Peers are those found in `--peers`; tests/bench/peers says how to install them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import httpx
import numpy as np

from ..e2e.embedded import import_embedded_model
from .chat import ChatClient
from .cut_model import cut
from .report import spread
from .scenarios import (
    GOALS,
    SAME_TEXT,
    SCENARIOS,
    WARM_DISK,
    WHOLE,
    Figures,
    Goal,
    Scenario,
    agent,
    prompt_after_restart,
    prompt_again,
)
from .servers import Contender, Running, mlx_lm, omlx, peers, running, wait_until_saved

_CACHE = Path(__file__).parents[2] / ".cache"
_REST_SECONDS = 8.0
"""Before a server's memory is read: it may give back what it needs no more."""
_QUIET_SECONDS = 3.0
"""After a start, before anything is asked: a server may finish what it puts off until nobody waits."""
MEMORY = "memory after all"
AGENT_MEMORY = "memory after those 10 turns"
ENGINE_MEMORY = "memory of the engine's process over the weights"
START = "start to first answer"
_GOALS = {
    **GOALS,
    START: Goal(1, beside="mlx_lm.server"),
    **{name: Goal(1, unit="MB", beside="mlx_lm.server") for name in (ENGINE_MEMORY, AGENT_MEMORY, MEMORY)},
}
Samples = dict[str, dict[str, list[float]]]
"""Values by server and figure, one a round."""


def measure(
    contender: Contender, scenarios: tuple[Scenario, ...], share: float, seed: int, log: Path, weights: int
) -> tuple[Figures, dict[str, str]]:
    """One round of one server, and what it wrote where that is compared. What it cannot do leaves no figure."""
    figures: Figures = {}
    seeds = {scenario: seed + 1000 * number for number, scenario in enumerate(scenarios)}
    with running(contender, log) as server:
        figures[START] = server.start_seconds
        figures[ENGINE_MEMORY] = (server.engine_bytes() - weights) / 1e6
        client = ChatClient(server.port, contender.model)
        time.sleep(_QUIET_SECONDS)
        for scenario in scenarios:
            figures |= _try(contender, scenario, client, share, seeds[scenario])
            if scenario is agent:
                figures[AGENT_MEMORY] = _rested_bytes(server) / 1e6
        if not set(scenarios) <= set(WHOLE):
            figures[MEMORY] = _rested_bytes(server) / 1e6
        if contender.home is None or prompt_again not in scenarios:
            return figures, client.texts
        wait_until_saved(contender.home)
    with running(contender, log) as server:
        again = ChatClient(server.port, contender.model)
        figures |= _try(contender, prompt_after_restart, again, share, seeds[prompt_again])
    warm, cold = figures.get("2K from disk after a restart: TTFT"), figures.get("2K, cold: TTFT")
    if warm and cold:
        figures[WARM_DISK] = cold / warm
    return figures, client.texts


def _try(contender: Contender, scenario: Scenario, client: ChatClient, share: float, seed: int) -> Figures:
    try:
        return scenario(client, share, seed)
    except (RuntimeError, OSError, TimeoutError, ZeroDivisionError, httpx.HTTPError) as error:
        print(f"{contender.name}: {scenario.__name__}: {error!r:.200}", file=sys.stderr, flush=True)
        return {}


def _rested_bytes(server: Running) -> int:
    time.sleep(_REST_SECONDS)
    return server.resident_bytes()


def rounds(
    contenders: list[Contender], scenarios: tuple[Scenario, ...], share: float, count: int, model: Path
) -> Samples:
    samples: Samples = {contender.name: {} for contender in contenders}
    weights = _weight_bytes(model)
    for number in range(count):
        order = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
        texts: dict[str, dict[str, str]] = {}
        for contender in order:
            print(f"round {number + 1} of {count}: {contender.name}", file=sys.stderr, flush=True)
            log = _CACHE / "bench" / f"{contender.name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as home:
                keeps = contender.name == "omlx"  # no other finds anything again after a restart
                contender = replace(contender, home=Path(home)) if keeps else contender
                try:
                    seed = 100_000 * (number + 1)
                    found, texts[contender.name] = measure(contender, scenarios, share, seed, log, weights)
                except (RuntimeError, httpx.HTTPError) as error:
                    print(f"{contender.name}: {error}", file=sys.stderr, flush=True)
                    continue
            for name, value in found.items():
                samples[contender.name].setdefault(name, []).append(value)
        expected = texts.pop("mlx_lm.server", {}).get(SAME_TEXT)
        for name, written in texts.items():
            if expected and SAME_TEXT in written:
                samples[name].setdefault(SAME_TEXT, []).append(_share_alike(written[SAME_TEXT], expected))
    return samples


def _weight_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))


def _share_alike(text: str, expected: str) -> float:
    """How much of the expected text comes before the first difference."""
    pairs = zip(text, expected, strict=False)
    differs = next(
        (place for place, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(text), len(expected))
    )
    return differs / len(expected)


def table(samples: Samples, pass_seconds: float, whole_pass_seconds: float) -> str:
    """Medians, the ranges in brackets, and the ratio to the best peer, or the one that the goal names: above 1 ours is
    better. What no server can pass comes last: a pass reads all weights, of the cut or the whole model."""
    ours, theirs = samples["omlx"], {name: of for name, of in samples.items() if name != "omlx"}
    lines = [f"| | omlx | {' | '.join(theirs)} | ratio | wanted | floor |", "|---" * (len(theirs) + 5) + "|"]
    for name, goal in _GOALS.items():
        if name not in ours:
            continue
        values = {peer: median(of[name]) for peer, of in theirs.items() if name in of}
        known = [value for peer, value in values.items() if value and goal.beside in ("", peer)]
        mine = median(ours[name])
        compares = known and not goal.is_own
        ratio = f"{mine / max(known) if goal.is_rate else min(known) / mine:.2f}" if compares else ""
        wanted = f"{goal.ratio:.2f}" + (f" of {goal.beside}" if goal.beside else "")
        if goal.is_own:
            wanted = f"{'at least' if goal.is_rate else 'at most'} {goal.ratio:g}"
        floor = ""
        if goal.num_a_pass:
            seconds = whole_pass_seconds if goal.is_whole else pass_seconds
            floor = f"{goal.num_a_pass / seconds if goal.is_rate else seconds:.3g}"
        cells = " | ".join(spread(of[name], ".3g") if name in of else "" for of in (ours, *theirs.values()))
        lines.append(f"| {name}, {goal.unit} | {cells} | {ratio} | {wanted} | {floor} |")
    return "\n".join(lines)


def read_seconds(num_bytes: int) -> float:
    """What reading so many bytes takes at the rate at which this machine copies a large array, read and written."""
    array = np.ones(1 << 26, np.float32)
    target = np.empty_like(array)
    times: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        np.copyto(target, array)
        times.append(time.perf_counter() - started)
    return num_bytes * min(times) / (2 * array.nbytes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--layers", type=int, default=4, help="of the embedded model; 0 for all, as rows that need them have"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the scenarios' full size")
    parser.add_argument("--peers", type=Path, default=_CACHE / "peers", help="folder of the peers' environments")
    parser.add_argument("--servers", nargs="+", help="omlx beside these only")
    parser.add_argument("--scenarios", nargs="+", help="only these")
    parser.add_argument("--json", type=Path, help="write all samples there")
    options = parser.parse_args()
    whole = import_embedded_model()
    model = cut(whole, options.layers, _CACHE / "bench" / "models") if options.layers else whole
    chosen = tuple(s for s in SCENARIOS if not options.scenarios or s.__name__ in options.scenarios)

    def compare(model: Path, scenarios: tuple[Scenario, ...]) -> Samples:
        contenders = [omlx(model), mlx_lm(model), *peers(model, options.peers)]
        contenders = [c for c in contenders if not options.servers or c.name in ("omlx", *options.servers)]
        return rounds(contenders, scenarios, options.share, options.rounds if scenarios else 0, model)

    samples = compare(model, tuple(s for s in chosen if s not in WHOLE))
    for name, found in compare(whole, tuple(s for s in chosen if s in WHOLE)).items():
        of_a_start = (START, ENGINE_MEMORY) if samples[name] else ()
        samples[name] |= {figure: values for figure, values in found.items() if figure not in of_a_start}
    if options.json:
        options.json.write_text(json.dumps(samples, indent=1))
    print(table(samples, read_seconds(_weight_bytes(model)), read_seconds(_weight_bytes(whole))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
