"""Thousands of schemas, each another, leave a bounded cache and no more memory than some of them did."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from omlx.server.engine.grammar import GrammarCompiler

from ..text_model import byte_tokenizer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def grammar(number: int) -> str:
    schema = {"type": "object", "properties": {f"a{number}": {"type": "integer"}}, "additionalProperties": False}
    return f"start: %json {json.dumps(schema)}"


def compile_thousands(folder: Path) -> tuple[int, int]:
    """How many grammars are kept of 2,000, and the bytes that the second thousand of them took."""
    compiler = GrammarCompiler(folder / "tokenizer.json", 300)
    middle = 0
    for number in range(2_000):
        compiler.row(grammar(number), [1])
        if number == 1_000:
            middle = resident_bytes()
    return compiler.num_compiled, resident_bytes() - middle


def test_thousands_of_tiny_schemas_leave_a_bounded_cache(tmp_path: Path) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    script = "import sys, pathlib; from tests.security.test_grammar_cache import compile_thousands;"
    script += "print(*compile_thousands(pathlib.Path(sys.argv[1])))"
    alone = [sys.executable, "-c", script, str(tmp_path)]  # what other tests have left here grows and shrinks
    done = subprocess.run(alone, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    num_kept, num_bytes = map(int, done.stdout.split())
    assert num_kept <= 32
    assert num_bytes < 2 << 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json"]
