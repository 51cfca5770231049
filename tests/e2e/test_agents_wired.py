"""Agents wired for good in their own files: they use the server when started alone, and restoring leaves no trace."""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path

import pytest

from omlx.integrations import find

from .agent_cases import ANSWERS, CASES, PROMPT, WORDS, AgentCase
from .harness import COMMANDS, OMLX, make_bench
from .outside import allowed
from .own_files import NOTE
from .talking_server import KEY, MODEL
from .test_agents_scripted import main_turns

pytestmark = pytest.mark.e2e


def can_be_wired(case: AgentCase) -> bool:
    """Copilot can't, to a server that asks for a key. Cline writes its file in its own way whenever it starts, so that
    its values come back and not its bytes."""
    integration = find(case.name)
    assert integration is not None
    return integration.edits is not None and case.name not in ("copilot", "cline")


WIRED = [case for case in CASES if can_be_wired(case)]


@pytest.mark.parametrize("case", WIRED, ids=lambda case: case.name)
def test_a_wired_agent_started_alone_comes_here_and_restoring_gives_its_files_back(
    case: AgentCase, tmp_path: Path
) -> None:
    bench = make_bench(tmp_path, case.name, {"OMLX_API_KEY": KEY})
    case.lay_out(bench)
    own = {path: path.read_text() for path in sorted(bench.home.rglob("*")) if path.is_file()}
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(case.answers()))
    keep, kept = tmp_path / "keep.py", tmp_path / "kept.json"
    keep.write_text(_KEEP)
    paths = [str(path) for path in own]

    outcome = bench.play(
        [sys.executable, "-m", "tests.e2e.talking_server", str(answers)],
        [
            [OMLX, "wire", case.name, "--model", MODEL, "--url", "{url}", "--yes"],
            [sys.executable, str(keep), str(kept), *paths],
            [str(COMMANDS / case.name), *(part.replace("{prompt}", PROMPT) for part in case.first)],
            [OMLX, "wired"],
            [OMLX, "restore", case.name, "--yes"],
            [OMLX, "wired"],
        ],
        seconds=case.seconds,
    )

    wired, _, agent, listed, restored, left = outcome.runs
    assert [wired.exit_code, agent.exit_code, restored.exit_code] == [0, 0, 0], str(outcome)
    after = {Path(path): text for path, text in json.loads(kept.read_text()).items()}
    changed = [path for path in own if after[path] != own[path]]
    assert changed, "the agent's own files were wired"
    assert shown_diff(wired.output, changed) == [
        line for path in changed for line in diff(path, own[path], after[path])
    ]
    assert [NOTE.findall(after[path]) for path in own] == [NOTE.findall(text) for text in own.values()]
    assert KEY not in wired.output + "".join(after.values())
    assert ANSWERS[0] in agent.output, str(outcome)
    assert set(agent.names) <= allowed(case.name, for_good=True), str(outcome)
    turns = main_turns(outcome, case)
    assert [turn.status for turn in turns] == [200, 200, 200], str(outcome)
    assert {turn.key for turn in outcome.exchanges if turn.method == "POST"} == {KEY}
    assert {json.loads(turn.request)["model"] for turn in turns} == {MODEL}
    assert WORDS[1] in turns[2].request
    assert all(str(path) in listed.output for path in changed)
    assert "Nothing is wired." in left.errors


_FOREIGN_KEY = re.compile(r'(?<=: ")(?:k|a-foreign-key)(?=")')
_KEEP = """\
import json, pathlib, sys
target, *paths = sys.argv[1:]
pathlib.Path(target).write_text(json.dumps({path: pathlib.Path(path).read_text() for path in paths}))
"""


def diff(path: Path, before: str, after: str) -> list[str]:
    """As it is shown: with the foreign keys in these homes masked."""
    old, new = (_FOREIGN_KEY.sub("••••", text).splitlines() for text in (before, after))
    return list(difflib.unified_diff(old, new, str(path), str(path), lineterm=""))


def shown_diff(output: str, paths: list[Path]) -> list[str]:
    """What was shown of these files; files of omlx's own are shown too."""
    shown: list[str] = []
    is_wanted = False
    for line in output.splitlines():
        if line.startswith("--- "):
            is_wanted = line[4:] in map(str, paths)
        if is_wanted:
            shown.append(line)
    return shown
