"""The figures as a table: medians side by side, and their ratio."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from .measure import Samples
from .servers import Contender


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of both servers. `ratio` above 1 means that ours is the faster one."""

    name: str
    unit: str
    ours: list[float]
    theirs: list[float]
    is_rate: bool = False

    @property
    def ratio(self) -> float:
        ours, theirs = median(self.ours), median(self.theirs)
        return ours / theirs if self.is_rate else theirs / ours


def rows(ours: Samples, theirs: Samples) -> list[Row]:
    return [
        Row("start to first answer", "s", ours.start_seconds, theirs.start_seconds),
        Row("time to first token", "s", ours.first_token_seconds, theirs.first_token_seconds),
        Row("decode rate", "tokens/s", ours.tokens_per_second, theirs.tokens_per_second, is_rate=True),
    ]


def table(found: list[Row], contenders: list[Contender]) -> str:
    """A Markdown table: median, and the range in brackets."""
    names = [f"{contender.name} {contender.version}" for contender in contenders]
    lines = [f"| | {names[0]} | {names[1]} | ratio |", "|---|---|---|---|"]
    for row in found:
        lines.append(f"| {row.name}, {row.unit} | {spread(row.ours)} | {spread(row.theirs)} | {row.ratio:.2f} |")
    return "\n".join(lines)


def section(printed: str, model: str, rounds: int, requests: int, max_tokens: int) -> str:
    """The part of docs/performance.md that `make bench` writes."""
    return f"""## Beside mlx_lm.server

`make bench ARGS=--write`, {datetime.now(UTC):%Y-%m-%d}. Run it on your own machine: only figures of one run compare.

{printed}

Medians, the range in brackets; a ratio above 1 means that omlx is faster. {rounds} rounds, in each of which both
servers are started alone, in turning order, and answer {requests} greedy requests of up to {max_tokens} tokens over
streamed chat completions. Prompts have about 60 tokens and no common beginning. Both serve the same folder of
{model} in float32 and compute with the same BLAS, on {_machine()}.
"""


def spread(values: list[float], form: str = ".2f") -> str:
    """The median, and the range in brackets."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _machine() -> str:
    cores = os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {_processor()}, {cores} cores"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")
