"""Every agent on the real server with a scripted engine: what it asks for, the commands it runs, the home it leaves."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from .agent_cases import ANSWERS, CASES, PROMPT, WORDS, AgentCase
from .harness import OMLX, Bench, Outcome, make_bench
from .outside import allowed
from .recording_proxy import Exchange
from .talking_server import CONTEXT_WINDOW, KEY, MODEL

pytestmark = pytest.mark.e2e

OUTPUT_CAP = 32_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_agent_runs_what_the_model_calls_and_comes_to_an_answer(case: AgentCase, tmp_path: Path) -> None:
    planned = ["launch", case.name, "--model", MODEL, "--dry-run", "--json"]
    outcome = play(case, tmp_path, case.launch(case.first, PROMPT), planned)

    assert outcome.runs[0].exit_code == 0, str(outcome)
    assert ANSWERS[0] in outcome.runs[0].output, str(outcome)
    assert set(outcome.runs[0].names) <= allowed(case.name), str(outcome)
    turns = main_turns(outcome, case)
    assert [turn.status for turn in turns] == [200, 200, 200], str(outcome)
    assert {turn.key for turn in outcome.exchanges if turn.method == "POST"} == {KEY}
    bodies = [json.loads(turn.request) for turn in turns]
    assert {body["model"] for body in bodies} == {MODEL}
    assert {body.get(case.output_cap) for body in bodies if case.output_cap} <= {OUTPUT_CAP}
    assert PROMPT in turns[0].request
    assert case.tool in tool_names(bodies[0])
    assert [word in turns[0].request for word in WORDS[:2]] == [False, False]
    assert [word in turns[1].request for word in WORDS[:2]] == [True, False]
    assert [word in turns[2].request for word in WORDS[:2]] == [True, True]
    assert outcome.server_exit_code == 0, outcome.server_log
    plan = json.loads(outcome.runs[1].output)
    files = [Path(file["path"]) for file in plan["files"]]
    assert [path for path in files if not path.is_file()] == []
    told = [*plan["command"], *plan["environment"].values(), *(path.read_text() for path in files)]
    assert [text for text in told if re.search(rf"\b({CONTEXT_WINDOW}|{CONTEXT_WINDOW - OUTPUT_CAP})\b", text)]


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in ("hermes", "codex")], ids=lambda case: case.name
)
def test_a_shell_that_takes_the_printed_lines_starts_the_agent_wired(case: AgentCase, tmp_path: Path) -> None:
    bench = bench_of(case, tmp_path)
    printed = f'"{OMLX}" launch {case.name} --url {{url}} --model {MODEL} --print-env'
    command = shlex.join((case.name, *(part.replace("{prompt}", PROMPT) for part in case.first)))
    outcome = bench.play(serve(case, tmp_path), [["/bin/sh", "-c", f'eval "$({printed})"\n{command}']], case.seconds)
    assert outcome.runs[0].exit_code == 0, str(outcome)
    assert ANSWERS[0] in outcome.runs[0].output, str(outcome)
    assert [turn.status for turn in main_turns(outcome, case)] == [200, 200, 200], str(outcome)
    assert {turn.key for turn in outcome.exchanges if turn.method == "POST"} == {KEY}


def play(case: AgentCase, folder: Path, *launches: list[str]) -> Outcome:
    """The agent's session in a home where its user had settings that lead elsewhere."""
    return bench_of(case, folder).run(serve(case, folder), *launches, seconds=case.seconds)


def bench_of(case: AgentCase, folder: Path) -> Bench:
    bench = make_bench(folder, case.name, {"OMLX_API_KEY": KEY, **case.environment})
    case.lay_out(bench)
    return bench


def serve(case: AgentCase, folder: Path) -> list[str]:
    answers = folder / "answers.json"
    answers.write_text(json.dumps(case.answers()))
    return [sys.executable, "-m", "tests.e2e.talking_server", str(answers)]


def main_turns(outcome: Outcome, case: AgentCase) -> list[Exchange]:
    """The requests that offer tools, in order; an agent also asks for titles."""
    return [each for each in outcome.posts(case.path) if json.loads(each.request).get("tools")]


def tool_names(body: dict) -> set[str]:
    return {tool.get("function", tool).get("name", "") for tool in body["tools"]}
