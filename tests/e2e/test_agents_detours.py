"""Settings of the user's that rank above a wiring which does not know them: the launch still comes here."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from .agent_cases import ANSWERS, CASES, PROMPT
from .harness import COMMANDS, OMLX
from .talking_server import CONTEXT_WINDOW
from .test_agents_scripted import main_turns, play

pytestmark = pytest.mark.e2e

_BY_NAME = {case.name: case for case in CASES}
_OPENCLAW = """\
{ agents: { defaults: {
  model: { primary: "anthropic/foreign", fallbacks: ["anthropic/other"] },
  modelPolicy: { allow: ["anthropic/*"] }, subagents: { model: "anthropic/foreign" },
  compaction: { model: "anthropic/foreign" }, heartbeat: { model: "anthropic/foreign" },
  models: { "anthropic/foreign": { alias: "far" } },
} } }
"""


_CLAUDE = """\
#!/bin/sh
echo "$*" > "$HOME/.claude.json"
"""
"""As the real one does on its first start, whatever it is asked."""


def test_openclaw_comes_here_although_only_others_models_are_allowed(tmp_path: Path) -> None:
    claude = tmp_path / "bin" / "claude"
    claude.parent.mkdir()
    claude.write_text(_CLAUDE)
    claude.chmod(0o755)
    path = os.pathsep.join((str(claude.parent), str(COMMANDS), str(Path(OMLX).parent), "/usr/bin", "/bin"))
    case = replace(_BY_NAME["openclaw"], own_files={".openclaw/openclaw.json": _OPENCLAW}, environment={"PATH": path})
    outcome = play(case, tmp_path, case.launch(case.first, PROMPT))
    assert ANSWERS[0] in outcome.runs[0].output, str(outcome)
    assert outcome.runs[0].names == [], str(outcome)


def test_codex_keeps_to_the_models_window_although_the_user_has_another(tmp_path: Path) -> None:
    own = "model_context_window = 1000000\nmodel_auto_compact_token_limit = 900000\n"
    case = replace(_BY_NAME["codex"], own_files={".codex/config.toml": own})
    outcome = play(case, tmp_path, case.launch(case.first, PROMPT))
    assert [turn.status for turn in main_turns(outcome, case)] == [200, 200, 200], str(outcome)
    sessions = list((tmp_path / "home/.codex/sessions").rglob("*.jsonl"))
    windows = {
        int(found) for path in sessions for found in re.findall(r'"model_context_window":(\d+)', path.read_text())
    }
    # Codex leaves itself a twentieth of the window.
    assert windows == {CONTEXT_WINDOW * 95 // 100}, json.dumps(sorted(windows))
