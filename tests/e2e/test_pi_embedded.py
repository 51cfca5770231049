"""Pi on the embedded model: `omlx serve`, `omlx launch pi`, one answer. Slow on a CPU, and real from end to end.

Its window is too small for a session with Pi, and large enough for one answer: hence `--force`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .harness import OMLX, make_bench

pytestmark = pytest.mark.e2e


def test_pi_gets_an_answer_from_the_embedded_model(tmp_path: Path, embedded_model: Path) -> None:
    bench = make_bench(tmp_path, "pi")
    (bench.omlx_home).mkdir()

    outcome = bench.run(
        [OMLX, "serve", "--model-dir", str(embedded_model.parent), "--port", "0"],
        ["launch", "pi", "--model", embedded_model.name, "--force", "--", "-p", "Say hello in one short sentence."],
        seconds=900,
    )

    assert outcome.runs[0].exit_code == 0, str(outcome)
    (asked,) = outcome.posts("/v1/chat/completions")
    body = json.loads(asked.request)
    assert body["model"] == embedded_model.name
    assert "Say hello in one short sentence." in json.dumps(body["messages"][-1])
    assert {tool["function"]["name"] for tool in body["tools"]} >= {"bash", "read", "edit", "write"}
    assert asked.status == 200
    assert asked.is_complete
    streamed = "".join(streamed_text(asked.answer)).split()
    assert streamed
    assert outcome.runs[0].output.split() == streamed
    assert " ERROR " not in outcome.server_log
    assert outcome.server_exit_code == 0, outcome.server_log


def streamed_text(answer: str) -> list[str]:
    records = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: {")]
    chunks = [json.loads(record) for record in records]
    return [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
