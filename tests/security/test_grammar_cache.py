"""Compiled grammars are kept for their own key alone, and few of them: thousands of schemas, each another, leave a
bounded cache and no more memory than some of them did."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from omlx.server.requests import Choice

from ..engine.grammar_model import Writer, grammar_of
from ..torture.grammars import grammars


def test_what_one_key_had_compiled_is_compiled_anew_for_another(tmp_path: Path):
    """A tool's schema takes milliseconds, and next to nothing where it is compiled: who guesses it would be told."""
    writer = Writer(tmp_path)
    guessed = writer.submit("r", grammar_of(Choice(("a secret plan",))))
    for namespace, count in (("alice", 1), ("bob", 2), ("alice", 2), ("bob", 2)):
        answer = writer.run([msgspec.structs.replace(guessed, cache_salt=namespace)])["r"]
        assert writer.text(answer) == "a secret plan"
        assert writer.grammars.num_compiled == count


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_thousands_of_tiny_schemas_leave_a_bounded_cache() -> None:
    assert grammars(2_000).is_bounded
