"""Thousands of schemas, each another, leave a bounded cache and no more memory than some of them did."""

from __future__ import annotations

import json
import resource
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


def test_thousands_of_tiny_schemas_leave_a_bounded_cache(tmp_path: Path) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    compiler = GrammarCompiler(tmp_path / "tokenizer.json", 300)
    middle = 0
    for number in range(2_000):
        compiler.row(grammar(number), [1])
        if number == 1_000:
            middle = resident_bytes()
    assert compiler.num_compiled <= 32
    assert resident_bytes() - middle < 2 << 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json"]
