"""Claude Code on the real server with a scripted engine: a tool is called, its result comes back, the turn ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .harness import make_bench

pytestmark = pytest.mark.e2e


def test_claude_code_runs_the_tool_the_model_calls_and_hands_its_result_back(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, "claude")
    call = {"name": "Bash", "arguments": {"command": "echo from-$((40 + 2))", "description": "Print a word"}}
    answers = tmp_path / "answers.json"
    answers.write_text(
        json.dumps([f"I will look.\n<tool_call>\n{json.dumps(call)}\n</tool_call>", "The word is from-42."])
    )

    outcome = bench.run(
        [sys.executable, "-m", "tests.e2e.scripted_server", str(answers)],
        ["launch", "claude", "--model", "scripted", "--", "-p", "Which word?", "--allowedTools", "Bash"],
    )

    assert outcome.runs[0].exit_code == 0, str(outcome)
    assert outcome.runs[0].output.strip() == "The word is from-42."
    first, second = (json.loads(each.request) for each in outcome.posts("/v1/messages"))
    assert [first["model"], second["model"]] == ["scripted", "scripted"]
    assert "Which word?" in json.dumps(first["messages"])
    assert second["messages"][: len(first["messages"]) - 1] == first["messages"][:-1]
    called = second["messages"][-2]["content"]
    assert [part["type"] for part in called] == ["text", "tool_use"]
    assert called[1]["input"] == call["arguments"]
    (result,) = (part for part in second["messages"][-1]["content"] if part["type"] == "tool_result")
    assert result["tool_use_id"] == called[1]["id"]
    assert "from-42" in json.dumps(result["content"])
    assert outcome.server_exit_code == 0, outcome.server_log


def test_a_sub_agent_asks_for_the_served_model_though_the_user_named_another(tmp_path: Path) -> None:
    foreign = {"CLAUDE_CODE_SUBAGENT_MODEL": "claude-foreign", "CLAUDE_CODE_SUBAGENT_MODEL_FORCE": "1"}
    bench = make_bench(tmp_path, "claude", foreign)
    (bench.home / ".claude/settings.json").write_text(json.dumps({"env": foreign}))
    task = {"description": "Look", "prompt": "Look for the word.", "subagent_type": "general-purpose"}
    call = {"name": "Agent", "arguments": {**task, "run_in_background": False}}
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps([f"<tool_call>\n{json.dumps(call)}\n</tool_call>", *["It is from-42."] * 6]))

    outcome = bench.run(
        [sys.executable, "-m", "tests.e2e.scripted_server", str(answers)],
        ["launch", "claude", "--model", "scripted", "--", "-p", "Which word?", "--allowedTools", "Agent"],
    )

    assert outcome.runs[0].exit_code == 0, str(outcome)
    bodies = [json.loads(each.request) for each in outcome.posts("/v1/messages")]
    of_the_sub_agent = [body for body in bodies if "Which word?" not in json.dumps(body["messages"])]
    assert "Look for the word." in json.dumps(of_the_sub_agent[0]["messages"]), str(outcome)
    assert {body["model"] for body in bodies} == {"scripted"}
