"""Settings that do not parse: a launch leaves them to the byte, whatever the agent makes of them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .agent_cases import CASES, PROMPT, AgentCase
from .harness import make_bench
from .talking_server import KEY

pytestmark = pytest.mark.e2e

BROKEN = [
    replace(case, own_files={path: f"{text}\n}}] = [\n" if text else text for path, text in case.own_files.items()})
    for case in CASES
    if case.own_files
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_a_launch_leaves_a_home_whose_settings_do_not_parse_as_it_is(case: AgentCase, tmp_path: Path) -> None:
    bench = make_bench(tmp_path, case.name, {"OMLX_API_KEY": KEY})
    case.lay_out(bench)
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(case.answers()))
    serve = [sys.executable, "-m", "tests.e2e.talking_server", str(answers)]

    outcome = bench.run(serve, case.launch(case.first, PROMPT))

    (run,) = outcome.runs
    assert "omlx: " not in run.errors, "omlx has nothing to refuse: it does not touch that file"
    assert run.output or run.errors, "the agent ran"
    asked = outcome.posts(case.path)
    assert {each.key for each in asked} <= {KEY}, "it asked here or nowhere"
