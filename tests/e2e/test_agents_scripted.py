"""Every agent on the real server with a scripted engine: what it asks for, the commands it runs, the home it leaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .agent_cases import ANSWERS, CASES, PROMPT, WORDS, AgentCase
from .harness import Outcome, make_bench
from .recording_proxy import Exchange
from .talking_server import CONTEXT_WINDOW, KEY, MODEL

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_agent_runs_what_the_model_calls_and_comes_to_an_answer(case: AgentCase, tmp_path: Path) -> None:
    outcome = play(case, tmp_path, case.launch(case.first, PROMPT))

    assert outcome.runs[0].exit_code == 0, str(outcome)
    assert ANSWERS[0] in outcome.runs[0].output, str(outcome)
    turns = main_turns(outcome, case)
    assert [turn.status for turn in turns] == [200, 200, 200], str(outcome)
    assert {turn.key for turn in outcome.exchanges if turn.method == "POST"} == {KEY}
    bodies = [json.loads(turn.request) for turn in turns]
    assert {body["model"] for body in bodies} == {MODEL}
    assert {body.get(case.output_cap) for body in bodies if case.output_cap} <= {32_000}
    assert PROMPT in turns[0].request
    assert case.tool in tool_names(bodies[0])
    assert [word in turns[0].request for word in WORDS[:2]] == [False, False]
    assert [word in turns[1].request for word in WORDS[:2]] == [True, False]
    assert [word in turns[2].request for word in WORDS[:2]] == [True, True]
    assert outcome.server_exit_code == 0, outcome.server_log
    told = [path.read_text() for path in (tmp_path / "home/.omlx/run" / case.name).rglob("*") if path.is_file()]
    assert all(str(CONTEXT_WINDOW) in text for text in told), "the agent's file of this run names the window"


def play(case: AgentCase, folder: Path, *launches: list[str]) -> Outcome:
    """The agent's session in a home where its user had settings that lead elsewhere."""
    bench = make_bench(folder, case.name, {"OMLX_API_KEY": KEY, **case.environment})
    case.lay_out(bench)
    answers = folder / "answers.json"
    answers.write_text(json.dumps(case.answers()))
    serve = [sys.executable, "-m", "tests.e2e.talking_server", str(answers)]
    return bench.run(serve, *launches, seconds=case.seconds)


def main_turns(outcome: Outcome, case: AgentCase) -> list[Exchange]:
    """The requests that offer tools, in order; an agent also asks for titles."""
    return [each for each in outcome.posts(case.path) if json.loads(each.request).get("tools")]


def tool_names(body: dict) -> set[str]:
    return {tool.get("function", tool).get("name", "") for tool in body["tools"]}
