"""Kills writers with SIGKILL in the middle of their work, and lets many write at once.

    python -m tests.torture.kills --cycles 1000 --writers 8 --increments 200

A cycle forks a writer that replaces a settings file again and again, and kills it at a random moment. Whatever stands
there then must parse, hold every older key, and be no older than the last version that the writer called written.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from omlx.launcher import files
from omlx.launcher.documents import Dialect, Set, edit, read

FORMATS: tuple[Dialect, ...] = ("json", "jsonc", "json5", "yaml", "toml")
COLUMNS = ("cycles", "killed in a write", "unreadable", "lost keys", "lost writes", "left over")
VERSIONS = 24
_FILLER = {f"key{number}": {"text": "x" * 200, "number": number} for number in range(40)}


def parsed(dialect: Dialect, text: str) -> Any:
    """The text as a parser other than the editor's own reads it, where there is one."""
    if dialect == "toml":
        return tomllib.loads(text)
    if dialect == "yaml":
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return json.loads(text) if dialect == "json" else read(dialect, text)


def versions(dialect: Dialect) -> list[bytes]:
    """The file's states, each with one key more than the one before it."""
    texts = [edit(dialect, "", [Set((), _FILLER)] if dialect != "toml" else [Set((k,), v) for k, v in _FILLER.items()])]
    for number in range(1, VERSIONS):
        texts.append(edit(dialect, texts[-1], [Set(("added", f"k{number}"), number)]))
    return [text.encode() for text in texts]


def kills(folder: Path, dialect: Dialect, cycles: int, seed: int) -> Counter[str]:
    chance = random.Random(f"{dialect} {seed}")
    states = versions(dialect)
    home, path = folder / "home", folder / f"settings.{dialect}"
    counts: Counter[str] = Counter(cycles=cycles)
    for _ in range(cycles):
        path.write_bytes(states[0])
        written = _killed_writer(home, path, states, chance)
        counts["killed in a write"] += bool(_left_over(path))
        counts.update(_verdict(dialect, path.read_bytes(), states, written))
        files.update(home, path, lambda _: states[0] + b"\n")  # the next writer sweeps
        counts["left over"] += len(_left_over(path))
    return counts


def _left_over(path: Path) -> list[Path]:
    return [entry for entry in path.parent.iterdir() if ".omlx-" in entry.name]


def _verdict(dialect: Dialect, data: bytes, states: list[bytes], written: int) -> list[str]:
    try:
        model = parsed(dialect, data.decode())
    except ValueError:
        return ["unreadable"]
    verdict = [] if all(model.get(key) == value for key, value in _FILLER.items()) else ["lost keys"]
    return verdict if data in states[written:] else [*verdict, "lost writes"]


def _killed_writer(home: Path, path: Path, states: list[bytes], chance: random.Random) -> int:
    """Fork a writer and kill it; returns the number of the last state that it said was written."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        for number, state in enumerate(states):
            files.update(home, path, lambda _, state=state: state)
            os.write(writing, bytes([number]))
        select.select([], [], [])
    os.close(writing)
    heard = b""
    enough = chance.randrange(0, VERSIONS - 6)
    while len(heard) < enough:
        heard += os.read(reading, enough - len(heard))
    select.select([], [], [], chance.random() * 0.004)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    while rest := os.read(reading, 64):
        heard += rest
    os.close(reading)
    return heard[-1] if heard else 0


def together(folder: Path, writers: int, increments: int) -> int:
    """What a counter in one file comes to when `writers` processes each add 1 to it `increments` times."""
    home, path = folder / "home", folder / "counter.json"
    path.write_text('{"count": 0}\n')
    processes = [_forked(lambda: _count_up(home, path, increments)) for _ in range(writers)]
    for process in processes:
        os.waitpid(process, 0)
    return json.loads(path.read_text())["count"]


def _forked(work: Callable[[], None]) -> int:
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return process


def _count_up(home: Path, path: Path, increments: int) -> None:
    def one_more(data: bytes | None) -> bytes:
        text = files.text_of(path, data)
        return edit("json", text, [Set(("count",), read("json", text)["count"] + 1)]).encode()

    for _ in range(increments):
        files.update(home, path, one_more)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cycles", type=int, default=1000, help="kills a format")
    arguments.add_argument("--writers", type=int, default=8)
    arguments.add_argument("--increments", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=1)
    wanted = arguments.parse_args()
    bad = 0
    print("format  " + "  ".join(COLUMNS))
    with tempfile.TemporaryDirectory() as name:
        for dialect in FORMATS:
            counts = kills(Path(name), dialect, wanted.cycles, wanted.seed)
            print(f"{dialect:6}  " + "  ".join(f"{counts[column]:>{len(column)}}" for column in COLUMNS), flush=True)
            bad += sum(counts[column] for column in COLUMNS[2:])
        count = together(Path(name), wanted.writers, wanted.increments)
    print(f"{wanted.writers} writers x {wanted.increments} increments: {count} of {wanted.writers * wanted.increments}")
    return 1 if bad or count != wanted.writers * wanted.increments else 0


if __name__ == "__main__":
    sys.exit(main())
