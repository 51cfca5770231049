"""Half an hour of mixed requests, some of them cut: what a request leaves behind shows as memory that grows.

    python -m tests.torture.soak --minutes 30 --engine script

The engine plays a script, which leaves the most requests in that time, or is a real tiny model, whose keys and values,
slots and prefixes are part of what may grow: memory and disk have room for some of its prefixes, so that they come and
go from the first minute on. The prompts come again and again, so that no cache has news; the first half of the time is
to fill them, and for malloc to have had its highest peaks. Then memory is looked at in short pauses, when no request
runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import fsum, inf, sqrt
from pathlib import Path
from statistics import fmean, linear_regression, median_low
from typing import NamedTuple

from ..tiny_model import build_tiny_model
from . import tiers
from .load import (
    Ask,
    Load,
    Outcome,
    Question,
    engines_of,
    load_server,
    num_failures,
    own_bytes,
    rest,
    scripted_question,
    started_engines,
)
from .load_server import MODEL

ENGINES = {"script": "the engine plays a script", "MLX": "a real tiny model, prefixes in memory and on disk"}

_PROMPTS = 500
_PARALLEL = 6
_SAMPLE_SECONDS = 30.0
_REST_SECONDS = 7.0
"""An idle engine gives back what it has freed at its next heartbeat, five seconds after it had something to do."""
_WARM_UP = 0.5
MOST_MB_PER_HOUR = 1.0
_NUM_PREFIXES = 12
_PREFIX_BYTES = 1 << 20
_DISK_BYTES = 3 << 20
"""All prefixes together have some 6 MB."""


class Slope(NamedTuple):
    """By least squares, in MB an hour, with its standard error."""

    per_hour: float
    error: float

    def __str__(self) -> str:
        """± two standard errors, as it is judged."""
        return f"{self.per_hour:+.2f} ± {2 * self.error:.2f}"


@dataclass
class Soak:
    outcome: Outcome = field(default_factory=Outcome)
    samples: list[tuple[float, list[int], list[int]]] = field(default_factory=list)
    """After the warm-up: seconds, and of the server and its engine the bytes of their own and the open descriptors."""

    @property
    def slopes(self) -> dict[str, Slope]:
        """Of what the server and its engine have of their own."""
        return {name: _slope(sizes) for name, sizes in self._sizes.items()}

    @property
    def has_grown(self) -> bool:
        """In descriptors; or in memory by more than the scatter explains, since a real engine's caches hold more in one
        pause than in another, and on end, since a step that never comes again is no growth."""
        first, second = self.descriptors
        return second > first or any(
            slope.per_hour - 2 * slope.error > MOST_MB_PER_HOUR and _grows_on_end(self._sizes[name])
            for name, slope in self.slopes.items()
        )

    @property
    def descriptors(self) -> tuple[int, int]:
        """The most that both had open in the first half of the samples, and in the second."""
        totals = [sum(sample[2]) for sample in self.samples]
        middle = len(totals) // 2
        return (max(totals[:middle]), max(totals[middle:])) if middle else (0, 0)

    @property
    def _sizes(self) -> dict[str, list[tuple[float, float]]]:
        """Hours and MB."""
        return {
            name: [(at / 3600, sizes[place] / 1e6) for at, sizes, _ in self.samples]
            for place, name in enumerate(("server", "engine"))
        }


def _slope(sizes: Sequence[tuple[float, float]]) -> Slope:
    if len(sizes) < 2:
        return Slope(0.0, inf)
    hours, sizes_mb = zip(*sizes, strict=True)
    slope, start = linear_regression(hours, sizes_mb)
    rest_mb = [size - slope * at - start for at, size in zip(hours, sizes_mb, strict=True)]
    spread = fsum((at - fmean(hours)) ** 2 for at in hours)
    return Slope(slope, sqrt(fsum(each**2 for each in rest_mb) / max(1, len(hours) - 2) / spread))


def _grows_on_end(sizes: Sequence[tuple[float, float]]) -> bool:
    """Whether the median of the third quarter is as far above the second's as growth takes it, and the fourth's above
    the third's: a single step is between two of them at most."""
    starts = [len(sizes) * quarter // 4 for quarter in range(1, 5)]
    quarters = [sizes[start:stop] for start, stop in pairwise(starts)]
    if not all(quarters):
        return False
    medians = [(median_low(at for at, _ in quarter), median_low(mb for _, mb in quarter)) for quarter in quarters]
    return all(mb - mb_then > MOST_MB_PER_HOUR * (at - then) for (then, mb_then), (at, mb) in pairwise(medians))


def _sample(pids: list[int]) -> tuple[float, list[int], list[int]]:
    """One of `Soak.samples`. Raises OSError where one of them is gone."""
    descriptors = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
    return time.monotonic(), [own_bytes(pid) for pid in pids], descriptors


async def _drive(port: int, pid: int, seconds: float, seed: int, ask: Ask, patience: float) -> Soak:
    soak, chance = Soak(), random.Random(seed)
    load = Load(port, chance, 0.2, soak.outcome, ask, patience)
    engines, started = await started_engines(load, pid, 0), time.monotonic()
    num_running, may_ask = 0, asyncio.Event()
    may_ask.set()

    async def work() -> None:
        nonlocal num_running
        while time.monotonic() - started < seconds:
            await may_ask.wait()
            num_running += 1
            await load.one(chance.randrange(_PROMPTS))
            num_running -= 1

    async def watch() -> None:
        await asyncio.sleep(seconds * _WARM_UP)
        while time.monotonic() - started < seconds:
            await asyncio.sleep(min(_SAMPLE_SECONDS, seconds / 40))
            may_ask.clear()  # what a request holds while it runs is no matter
            while num_running:
                await asyncio.sleep(0.05)
            await asyncio.sleep(min(_REST_SECONDS, seconds / 40))
            try:
                soak.samples.append(_sample([pid, *engines]))
            except OSError:  # who is gone is told as lost
                return
            finally:
                may_ask.set()

    await asyncio.gather(watch(), *(work() for _ in range(_PARALLEL)))
    with contextlib.suppress(OSError):  # a server that has died is told by its last words
        await rest(port)
    soak.outcome.counts["engines lost"] = len(set(engines) - set(engines_of(pid)))
    soak.outcome.seconds = time.monotonic() - started
    return soak


def soak(seconds: float, engine: str = "script", seed: int = 4) -> Soak:
    """`engine` is one of `ENGINES`."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        options, ask, patience = ((), scripted_question, 0.3) if engine == "script" else _real_model(home)
        with load_server(home, *options) as (server, port, held):
            found = asyncio.run(_drive(port, server.pid, seconds, seed, ask, patience))
        found.outcome.held = held
        counts = found.outcome.counts
        counts["engines lost"] = max(counts["engines lost"], num_failures(home / "log"))
        return found


def _real_model(home: Path) -> tuple[tuple[str, ...], Ask, float]:
    """The server's options, what it is asked, and the mean seconds until a client leaves. What each prompt is to be
    answered is asked first of a server that keeps no prefixes."""
    option = f"--model={build_tiny_model(home / 'models' / MODEL)}"
    with load_server(home, option, "--prefix-bytes=0") as (_, port, _):
        answers = asyncio.run(tiers.answers_to(tiers.questions(_NUM_PREFIXES, seed=6), port))
    ask = functools.partial(_question, [*answers.items()])
    return (option, f"--prefix-bytes={_PREFIX_BYTES}", f"--disk-bytes={_DISK_BYTES}"), ask, 0.1


def _question(answers: Sequence[tuple[tiers.Question, str]], chance: random.Random, number: int) -> Question:
    (path, prompt), answer = chance.choice(answers)
    stream = chance.random() < 0.5
    return Question(str(number), path, stream, tiers.body(path, prompt, stream), answer)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--minutes", type=float, default=30.0)
    arguments.add_argument("--engine", choices=ENGINES, default="script")
    wanted = arguments.parse_args()
    found = soak(60 * wanted.minutes, wanted.engine)
    print(f"{found.outcome.seconds:.0f} s, {dict(found.outcome.counts)}, held {found.outcome.held}")
    print("MB an hour:", ", ".join(f"{what} {slope}" for what, slope in found.slopes.items()))
    for at, sizes, descriptors in found.samples:
        print(f"{at - found.samples[0][0]:.0f} s:", [size / 1e6 for size in sizes], "MB,", descriptors, "descriptors")
    return 1 if found.outcome.wrong or found.has_grown else 0


if __name__ == "__main__":
    sys.exit(main())
