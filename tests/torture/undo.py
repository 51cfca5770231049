"""Wires random files by random edits, lets the user change them or not, and undoes it.

    python -m tests.torture.undo --rounds 3000

An untouched file must get its exact bytes back; a file with a key added by the user must mean what it meant before the
wiring, and hold that key.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omlx.launcher.documents import Change, Dialect, Set, edit, read
from omlx.launcher.journal import FileEdit, apply
from omlx.launcher.restore import restore

from . import write_json, write_toml, write_yaml
from .edits import equal, random_case
from .written import Written

DIALECTS: tuple[Dialect, ...] = ("json", "jsonc", "json5", "yaml", "toml")
COLUMNS = ("rounds", "wrong bytes", "wrong values", "kept without reason")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
USERS_KEY = "added by the user"


def written_file(chance: random.Random, dialect: Dialect) -> Written:
    write = {"yaml": write_yaml.write, "toml": write_toml.write}.get(dialect, write_json.write)
    return write(chance, dialect)


def random_changes(chance: random.Random, written: Written) -> tuple[Change, ...]:
    """Up to three edits, each of what the one before it left."""
    changes: list[Change] = []
    for _ in range(3):
        case = random_case(chance, written)
        changes.append(case.change)
        written = replace(written, model=case.model)
    return tuple(changes)


def undone(folder: Path, chance: random.Random, dialect: Dialect) -> str:
    """The verdict on one round, "" when all is well."""
    written = written_file(chance, dialect)
    home, path = folder / "home", folder / f"settings.{dialect}"
    path.write_bytes(written.text.encode())
    apply(home, "agent", [FileEdit(path, dialect, random_changes(chance, written))], NOW)
    expected: dict[str, Any] = written.model
    touched = chance.random() < 0.6
    if touched:
        expected = {**written.model, USERS_KEY: 1}
        path.write_bytes(edit(dialect, path.read_bytes().decode(), [Set((USERS_KEY,), 1)]).encode())
    kept = [line for done in restore(home, "agent") for line in done.kept]
    if kept:
        return "kept without reason"
    data = path.read_bytes()
    if not touched and data != written.text.encode():
        return "wrong bytes"
    return "" if equal(read(dialect, data.decode()), expected) else "wrong values"


def torture(dialect: Dialect, rounds: int, seed: int) -> Counter[str]:
    verdicts: Counter[str] = Counter(rounds=rounds)
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            verdict = undone(Path(name), random.Random(f"undo {dialect} {seed} {number}"), dialect)
            verdicts[verdict] += bool(verdict)
    return verdicts


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3000, help="in all, a fifth for each dialect")
    arguments.add_argument("--seed", type=int, default=1)
    wanted = arguments.parse_args()
    bad = 0
    print("dialect  " + "  ".join(COLUMNS))
    for dialect in DIALECTS:
        verdicts = torture(dialect, wanted.rounds // len(DIALECTS), wanted.seed)
        print(f"{dialect:7}  " + "  ".join(f"{verdicts[name]:>{len(name)}}" for name in COLUMNS), flush=True)
        bad += sum(verdicts[name] for name in COLUMNS[1:])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
