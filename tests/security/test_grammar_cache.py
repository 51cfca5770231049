"""Compiled grammars are kept for their own key alone, and few of them: thousands of schemas, each another, leave a
bounded cache and no more memory than some of them did."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from omlx.server.engine.grammar import GrammarCompiler
from omlx.server.malloc import keep_one_arena
from omlx.server.requests import Choice

from ..engine.grammar_model import Writer, grammar_of
from ..text_model import byte_tokenizer


def test_what_one_key_had_compiled_is_compiled_anew_for_another(tmp_path: Path):
    """A tool's schema takes milliseconds, and next to nothing where it is compiled: who guesses it would be told."""
    writer = Writer(tmp_path)
    guessed = writer.submit("r", grammar_of(Choice(("a secret plan",))))
    for namespace, count in (("alice", 1), ("bob", 2), ("alice", 2), ("bob", 2)):
        answer = writer.run([msgspec.structs.replace(guessed, cache_salt=namespace)])["r"]
        assert writer.text(answer) == "a secret plan"
        assert writer.grammars.num_compiled == count


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def grammar(number: int) -> str:
    schema = {"type": "object", "properties": {f"a{number}": {"type": "integer"}}, "additionalProperties": False}
    return f"start: %json {json.dumps(schema)}"


def compile_thousands(folder: Path) -> tuple[int, int]:
    """How many grammars are kept of 2,000, and the bytes that the second thousand of them took."""
    keep_one_arena()  # each is compiled on a thread of its own
    compiler = GrammarCompiler(folder / "tokenizer.json", 300)
    middle = 0
    for number in range(2_000):
        compiler.row(grammar(number), [1])
        if number == 1_000:
            middle = resident_bytes()
    return compiler.num_compiled, resident_bytes() - middle


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_thousands_of_tiny_schemas_leave_a_bounded_cache(tmp_path: Path) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    script = "import sys, pathlib; from tests.security.test_grammar_cache import compile_thousands;"
    script += "print(*compile_thousands(pathlib.Path(sys.argv[1])))"
    alone = [sys.executable, "-c", script, str(tmp_path)]  # what other tests have left here grows and shrinks
    done = subprocess.run(alone, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    num_kept, num_bytes = map(int, done.stdout.split())
    assert num_kept <= 32
    assert num_bytes < 1 << 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json"]
