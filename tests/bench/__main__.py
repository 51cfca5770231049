"""`make bench`: omlx beside mlx_lm.server on the embedded model, in one run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..e2e.embedded import import_embedded_model
from .measure import measure
from .overhead import write
from .report import rows, section, table
from .servers import mlx_lm, omlx

_ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench ARGS='…'", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each server is started")
    parser.add_argument("--requests", type=int, default=2, help="requests a round")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--at-least", type=float, default=0.0, help="exit 1 where a ratio is below this")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    options = parser.parse_args()
    model = import_embedded_model()
    contenders = [omlx(model), mlx_lm(model)]
    log_folder = _ROOT / ".cache" / "bench"
    ours, theirs = measure(contenders, options.rounds, options.requests, options.max_tokens, log_folder)
    found = rows(ours, theirs)
    printed = table(found, contenders)
    print(printed)
    if options.write:
        write(section(printed, model.name, options.rounds, options.requests, options.max_tokens))
    slow = [row.name for row in found if row.ratio < options.at_least]
    if slow:
        print(f"below {options.at_least}: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
