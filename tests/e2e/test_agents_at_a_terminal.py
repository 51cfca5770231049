"""Agents in their own interface at a terminal, as a user sits before it: one prompt is typed, one answer shown."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from .agent_cases import ANSWERS, CASES
from .harness import OMLX
from .outside import allowed
from .talking_server import KEY, MODEL
from .test_agents_scripted import bench_of, main_turns

pytestmark = pytest.mark.e2e

PROMPT = "Say both words"


@dataclass(frozen=True, slots=True)
class Interface:
    """`ready` is on the screen once it takes a prompt, without blanks; `leave` is the key that ends it."""

    name: str
    ready: str
    leave: str
    own_settings: str = ""


INTERFACES = (
    # The note is what Codex would leave on its first start, whoever starts it.
    Interface("codex", "forshortcuts", "\x03", "[tui]\nscreen_reader_detection_done = true\n"),
    Interface("pi", f"{MODEL}•medium", "\x04"),
)


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
def test_an_agent_at_a_terminal_shows_the_answer_and_looks_up_no_other_host(
    interface: Interface, tmp_path: Path
) -> None:
    case = next(case for case in CASES if case.name == interface.name)
    if interface.own_settings:
        case = replace(case, own_files=dict.fromkeys(case.own_files, interface.own_settings))
    bench = bench_of(case, tmp_path)
    answers, steps = tmp_path / "answers.json", tmp_path / "steps.json"
    answers.write_text(json.dumps(ANSWERS[:1]))
    shown = ANSWERS[0].replace(" ", "")
    typed = ((interface.ready, PROMPT), (PROMPT.replace(" ", ""), "\r"), (re.escape(shown), interface.leave))
    steps.write_text(json.dumps(typed))

    launch = [OMLX, "launch", case.name, "--url", "{url}", "--yes", "--model", MODEL]
    outcome = bench.play(
        [sys.executable, "-m", "tests.e2e.talking_server", str(answers)],
        [[sys.executable, "-m", "tests.e2e.typist", str(steps), *launch]],
    )

    assert outcome.runs[0].exit_code == 0, str(outcome)
    assert shown in outcome.runs[0].output, str(outcome)
    assert set(outcome.runs[0].names) <= allowed(case.name, at_a_terminal=True), str(outcome)
    turn = main_turns(outcome, case)[0]
    assert (turn.status, turn.key, json.loads(turn.request)["model"]) == (200, KEY, MODEL)
    assert PROMPT in turn.request
