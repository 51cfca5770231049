"""The name server of these tests sees what a program looks up, and answers that there is no such host."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .harness import make_bench

pytestmark = pytest.mark.e2e

_LOOK_UP = (
    "import socket\ntry: socket.getaddrinfo('Calls.Home.example', 443)\nexcept socket.gaierror as no: print(no.errno)"
)


def test_a_name_that_is_looked_up_is_written_down(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, "")
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps([]))
    look_up = [sys.executable, "-c", _LOOK_UP]
    outcome = bench.play([sys.executable, "-m", "tests.e2e.talking_server", str(answers)], [look_up, ["true"]])
    assert "calls.home.example" in outcome.runs[0].names
    assert outcome.runs[0].output.strip(), "and does not exist"
    assert outcome.runs[1].names == []
