"""What holds for every integration; a new module is tested by standing in the folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from omlx import integrations
from omlx.integrations import find, names
from omlx.integrations.spec import Integration, Model, RunFile, Surroundings, Target, Wiring
from omlx.launcher.cli import commands

from .agents_data import agents_json
from .agents_page import agents_page
from .conftest import KEY

WITHOUT_OUTPUT_CAP = {"codex", "codex_app", "claude_desktop"}
"""Agents that have no setting for it, and send none."""
WITHOUT_WINDOW = {"claude_desktop"}
"""No setting for it is known."""

AGENTS = {name: agent for name in names() if (agent := find(name)) is not None}
every_agent = pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
PER_RUN = {name: agent for name, agent in AGENTS.items() if agent.wire is not None}
every_launch = pytest.mark.parametrize("agent", PER_RUN.values(), ids=PER_RUN)


def wired(agent: Integration, target: Target, surroundings: Surroundings) -> Wiring:
    assert agent.wire is not None
    return agent.wire(target, surroundings)


def of_a_launch(agent: Integration, target: Target, surroundings: Surroundings) -> str:
    """All that a launch sets, runs and writes, as text; empty for an agent that can only be wired for good."""
    if agent.wire is None:
        return ""
    wiring = agent.wire(target, surroundings)
    files = [part for file in wiring.files for part in (str(file.path), file.text)]
    parts = [*wiring.arguments, *wiring.environment, *wiring.environment.values(), *files, *wiring.warnings]
    return "\n".join(parts)


def for_good(agent: Integration, target: Target, surroundings: Surroundings) -> str:
    """All that wiring for good writes, as text; empty for an agent that can only be launched."""
    edits = agent.edits(target, surroundings) if agent.edits is not None else ()
    return "\n".join(edit.text if isinstance(edit, RunFile) else repr(edit) for edit in edits)


def everything(agent: Integration, target: Target, surroundings: Surroundings) -> str:
    return f"{of_a_launch(agent, target, surroundings)}\n{for_good(agent, target, surroundings)}"


def test_the_folder_is_the_list(checkout: Path):
    modules = {path.stem for path in (checkout / "integrations").glob("[!_]*.py")} - {"spec"}
    assert set(names()) == modules
    assert find("nobody") is None
    assert find("spec") is None


@every_agent
def test_its_words_are_complete(agent: Integration):
    assert all((agent.title, agent.executable, agent.install, agent.summary))
    assert agent.minimum_context > 0
    assert agent.wire is not None or agent.edits is not None
    assert (agent.edits is None) == bool(agent.no_file), "and the words that say why it has none"
    assert re.fullmatch(r"[a-z][a-z_]*", agent.name)


@every_agent
def test_the_same_target_gives_the_same_wiring(agent: Integration, target: Target, surroundings: Surroundings):
    assert everything(agent, target, surroundings) == everything(agent, target, surroundings)


@every_agent
def test_the_key_stands_nowhere_in_the_wiring(agent: Integration, target: Target, surroundings: Surroundings):
    assert KEY not in everything(agent, target, surroundings)


@every_agent
def test_server_and_model_reach_the_agent(agent: Integration, target: Target, surroundings: Surroundings):
    text = everything(agent, target, surroundings)
    assert "http://127.0.0.1:8123" in text
    assert target.model.name in text


@pytest.mark.parametrize("mode", [of_a_launch, for_good])
@every_agent
def test_the_window_and_the_output_cap_are_the_servers(
    agent: Integration, mode: Callable[..., str], target: Target, surroundings: Surroundings
):
    """Never scaled, never rounded: whole, or the prompt's share; one number a session is the smallest tier's."""
    text = mode(agent, target, surroundings)
    if not text:
        assert (agent.wire if mode is of_a_launch else agent.edits) is None
        return
    if agent.name not in WITHOUT_WINDOW:
        assert re.search(rf"\b(131072|65536|{131_072 - 32_000})\b", text)
    if agent.name not in WITHOUT_OUTPUT_CAP:
        assert re.search(r"\b(32000|16384)\b", text)


@every_agent
def test_a_server_that_does_not_say_its_window_is_not_spoken_for(
    agent: Integration, target: Target, surroundings: Surroundings
):
    model = Model("m", None, 32_000)
    unknown = replace(target, model=model, opus=model, sonnet=model, haiku=model, models=(model,))
    text = everything(agent, unknown, surroundings)
    assert "None" not in text
    assert "null" not in text


@every_agent
def test_wiring_for_good_sets_values_and_never_a_whole_file_of_the_users(
    agent: Integration, target: Target, surroundings: Surroundings
):
    for edit in agent.edits(target, surroundings) if agent.edits else ():
        if isinstance(edit, RunFile):
            assert edit.path.is_relative_to(surroundings.run_directory)
        else:
            assert () not in [path for path, _ in edit.values]


@every_launch
def test_the_users_own_arguments_come_last_and_whole(agent: Integration, target: Target, surroundings: Surroundings):
    assert wired(agent, target, surroundings).arguments[-2:] == ("-p", "hi")


@every_launch
def test_files_stand_in_the_run_folder_only(agent: Integration, target: Target, surroundings: Surroundings):
    for file in wired(agent, target, surroundings).files:
        assert file.path.is_relative_to(surroundings.run_directory)


@every_agent
def test_no_model_is_called_by_a_name_that_is_not_its_own(
    agent: Integration, target: Target, surroundings: Surroundings
):
    assert not re.search(r"\bclaude-(opus|sonnet|haiku|fable|\d)", everything(agent, target, surroundings))


@every_agent
def test_approvals_and_sandboxes_are_left_alone(agent: Integration, target: Target, surroundings: Surroundings):
    text = everything(agent, target, surroundings).lower()
    loosened = r"approval.?(mode|policy)|exec.approvals|sandbox|dangerous|permission|yolo|auto.?(accept|approve)|trust"
    assert not re.search(rf"\b({loosened})", text)


def test_the_docs_are_made_from_the_folder(checkout: Path):
    page = (checkout / "docs" / "agents.md").read_text(encoding="utf-8")
    assert page == agents_page(), "`make agent-pages` writes it anew"


@every_agent
def test_its_module_is_short(agent: Integration, checkout: Path):
    lines = (checkout / "integrations" / f"{agent.name}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 100


def test_a_new_module_in_the_folder_is_an_agent_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = (
        'name="newcomer", title="Newcomer", executable="newcomer", install="npm i n", minimum_context=1, summary="x"'
    )
    monkeypatch.delitem(sys.modules, "omlx.integrations.newcomer", raising=False)
    (tmp_path / "newcomer.py").write_text(
        '"""A new one."""\n'
        f"from omlx.integrations.spec import Integration, Wiring\n"
        f"INTEGRATION = Integration({words}, wire=lambda target, around: Wiring(), no_file='x')\n"
    )
    monkeypatch.setattr(integrations, "__path__", [*integrations.__path__, str(tmp_path)])
    assert "newcomer" in names()
    shown = CliRunner().invoke(commands, ["launch", "--list"], env={"HOME": str(tmp_path)})
    assert "Newcomer" in shown.stdout
    assert "## Newcomer" in agents_page()
    assert '"omlx launch newcomer"' in agents_json()
