"""The window that each agent really works with, in its own words where it shows it: a launch gives it the server's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .agent_cases import CASES, PROMPT
from .harness import OMLX, Outcome, make_bench
from .talking_server import CONTEXT_WINDOW, KEY, MODEL

pytestmark = pytest.mark.e2e

OUTPUT_CAP = 32_000


def launched(name: str, folder: Path, *arguments: str) -> Outcome:
    """The agent with these arguments, in a home whose user had settings that lead elsewhere."""
    case = next(case for case in CASES if case.name == name)
    bench = make_bench(folder, name, {"OMLX_API_KEY": KEY, **case.environment})
    case.lay_out(bench)
    answers = folder / "answers.json"
    answers.write_text(json.dumps(case.answers()))
    outcome = bench.play(
        [sys.executable, "-m", "tests.e2e.talking_server", str(answers)],
        [[OMLX, "launch", name, "--url", "{url}", "--yes", "--model", MODEL, "--", *arguments]],
        seconds=case.seconds,
    )
    assert outcome.runs[0].exit_code == 0, str(outcome)
    return outcome


def test_claude_code_counts_against_the_servers_window(tmp_path: Path) -> None:
    shown = launched("claude", tmp_path, "-p", "/context").runs[0].output
    assert f"**Model:** {MODEL}" in shown
    assert f" / {CONTEXT_WINDOW / 1000:.1f}k (" in shown, shown


@pytest.mark.parametrize("name", ["opencode", "kilo"])
def test_opencode_and_kilo_list_the_model_with_the_servers_window(tmp_path: Path, name: str) -> None:
    shown = launched(name, tmp_path, "models", "omlx", "--verbose").runs[0].output
    listed, _, description = shown.partition("\n")
    assert listed == f"omlx/{MODEL}"
    assert json.loads(description)["limit"] == {"context": CONTEXT_WINDOW, "output": OUTPUT_CAP}


def test_copilot_leaves_the_answer_its_share_of_the_servers_window(tmp_path: Path) -> None:
    launched("copilot", tmp_path, "-p", PROMPT, "--allow-all-tools")
    (events,) = (tmp_path / "home/.copilot/session-state").glob("*/events.jsonl")
    told = events.read_text()
    assert f'"maxPromptTokens":{CONTEXT_WINDOW - OUTPUT_CAP},' in told
    assert f'"maxOutputTokens":{OUTPUT_CAP},' in told
