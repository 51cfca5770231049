"""Groups of two and four ranks answer as one process does: `python -m tests.torture.ranks`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..engine.ranks.test_group import CASES, LONG, run_group


def answers(size: int) -> Iterator[tuple[str, int, int]]:
    """For each kind of model and split: its name, how many answers were compared, how many were wrong. An answer that
    found nothing of its long prompt cached is wrong, too, but the first time."""
    for kind, write, split in CASES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            told = run_group(folder, write(folder / "model"), split, size)["answers"]
        alone = told.pop("alone")[0]
        pairs = [(answer, alone[request]) for tokens, _ in told.values() for request, answer in tokens.items()]
        missed = sum(when != "cold" and not cached[LONG] for when, (_, cached) in told.items())
        yield f"{kind}, {split}", len(pairs), missed + sum(answer != expected for answer, expected in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 4])
    print("| model, split | ranks | answers | wrong |")
    print("|---|--:|--:|--:|")
    for size in parser.parse_args().sizes:
        for what, count, wrong in answers(size):
            print(f"| {what} | {size} | {count} | {wrong} |", flush=True)


if __name__ == "__main__":
    main()
