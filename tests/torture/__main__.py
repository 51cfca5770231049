"""Everything that abuses omlx, one after the other, and one table of it: `python -m tests.torture`.

`--share 0.01` does a hundredth of it. Settings files have their own tables (`edits`, `kills`, `undo`).
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import disk
from .load import load, percentile


@dataclass(frozen=True)
class Row:
    what: str
    done: int
    lost: int
    wrong: int
    notes: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.done:,} | {self.lost:,} | {self.wrong:,} | {self.notes} |"


def mixed_requests(share: float) -> Iterator[Row]:
    outcome = load(max(60, int(10_000 * share)))
    counts, memory = outcome.counts, outcome.memory
    middle, last = memory[len(memory) // 2][:2], memory[-1][:2]
    yield Row(
        "mixed requests, four dialects, streaming and not",
        counts["answered"] + counts["cut"],
        counts["errors"] + counts["engines lost"],
        counts["wrong"] + counts["wrong before the cut"],
        f"{counts['cut']:,} cut by the client; {outcome.seconds:.0f} s; "
        f"server and engine grew by {sum(last) - sum(middle):,} KiB in the second half",
    )
    yield Row("leases and streams still held at the end", sum(outcome.held.values()), 0, sum(outcome.held.values()), "")


def cancels(share: float) -> Iterator[Row]:
    outcome = load(max(60, int(1500 * share)), parallel=4, cut_share=0.7, seed=2)
    for stream, values in outcome.freed.items():
        yield Row(
            f"a client leaves {'a stream' if stream else 'while it waits'}, until its row is free",
            len(values),
            0,
            0,
            f"p50 {1000 * percentile(values, 0.5):.0f} ms, p99 {1000 * percentile(values, 0.99):.0f} ms",
        )


def cache_files(share: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        killed = disk.kills(Path(name) / "kills", max(3, int(1000 * share)))
        yield Row(
            "SSD tier: its writer killed",
            killed["kills"],
            killed["left over"],
            killed["wrong"] + killed["over the cap"],
            f"{killed['killed in a write']:,} in a write; {killed['read']:,} blocks read afterwards",
        )
        damaged = disk.faults(Path(name) / "faults", max(20, int(10_000 * share)))
        yield Row(
            "SSD tier: files damaged in eight ways",
            damaged["faults"],
            0,
            damaged["wrong"],
            f"{damaged['thrown away']:,} files thrown away",
        )


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--share", type=float, default=1.0, help="of the full numbers")
    share = arguments.parse_args().share
    logging.disable(logging.WARNING)
    rows: list[Row] = []
    for part in (mixed_requests, cancels, cache_files):
        for row in part(share):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    print("| what was done | how often | lost | wrong | notes |\n|---|--:|--:|--:|---|")
    print("\n".join(map(str, rows)))
    return 1 if any(row.lost or row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
