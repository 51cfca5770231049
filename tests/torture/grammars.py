"""Tiny schemas, each another, in one engine's cache of grammars.

python -m tests.torture.grammars --count 10000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from omlx.server.engine.grammar import GrammarCompiler
from omlx.server.malloc import keep_one_arena

from ..text_model import byte_tokenizer

MOST_KEPT = 32
MOST_BYTES = 1 << 20
_TOKENIZER = "tokenizer.json"


class Kept(NamedTuple):
    """How many grammars are kept, the bytes that came after the first half of them, and the files that were left; on
    Linux."""

    num_grammars: int
    num_bytes: int
    num_files: int

    @property
    def is_bounded(self) -> bool:
        return self.num_grammars <= MOST_KEPT and self.num_bytes <= MOST_BYTES and self.num_files == 0


def grammars(count: int) -> Kept:
    """In a process of their own: what others have left in this one grows and shrinks."""
    argv = [sys.executable, "-m", __name__, "--count", str(count)]
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, check=True)
    return Kept(*map(int, done.stdout.split()))


def _compile(count: int, folder: Path) -> Kept:
    byte_tokenizer().save(str(folder / _TOKENIZER))
    keep_one_arena()  # each is compiled on a thread of its own
    compiler = GrammarCompiler(folder / _TOKENIZER, 300)
    half_bytes = 0
    for number in range(count):
        compiler.row(_grammar(number), [1])
        if number == count // 2:
            half_bytes = _resident_bytes()
    left = [path for path in folder.iterdir() if path.name != _TOKENIZER]
    return Kept(compiler.num_compiled, _resident_bytes() - half_bytes, len(left))


def _grammar(number: int) -> str:
    schema = {"type": "object", "properties": {f"a{number}": {"type": "integer"}}, "additionalProperties": False}
    return f"start: %json {json.dumps(schema)}"


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--count", type=int, default=10_000)
    count: int = arguments.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        print(*_compile(count, Path(folder)))


if __name__ == "__main__":
    main()
