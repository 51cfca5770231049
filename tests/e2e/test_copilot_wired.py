"""Copilot wired for good to a server that asks for no key comes here alone, and restoring leaves no trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .agent_cases import CASES, PROMPT
from .harness import COMMANDS, OMLX, make_bench
from .slow_server import ANSWER, CONTEXT_WINDOW, MODEL

pytestmark = pytest.mark.e2e

OUTPUT_CAP = 32_000


def test_copilot_wired_for_good_comes_here_with_the_servers_window(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "copilot")
    bench = make_bench(tmp_path, "copilot")
    case.lay_out(bench)

    outcome = bench.play(
        [sys.executable, "-m", "tests.e2e.slow_server", "0"],
        [
            [OMLX, "wire", "copilot", "--model", MODEL, "--url", "{url}", "--yes"],
            [str(COMMANDS / "copilot"), *(part.replace("{prompt}", PROMPT) for part in case.first)],
            [OMLX, "restore", "copilot", "--yes"],
        ],
        seconds=case.seconds,
    )

    assert [run.exit_code for run in outcome.runs] == [0, 0, 0], str(outcome)
    assert ANSWER in outcome.runs[1].output
    (asked,) = outcome.posts("/v1/chat/completions")
    body = json.loads(asked.request)
    assert (body["model"], body["max_tokens"], asked.key) == (MODEL, OUTPUT_CAP, "")
    (events,) = (bench.home / ".copilot/session-state").glob("*/events.jsonl")
    assert f'"maxPromptTokens":{CONTEXT_WINDOW - OUTPUT_CAP},' in events.read_text()
