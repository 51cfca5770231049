"""Wiring that lasts: `omlx wire`, `restore` and `wired`, on the journal that can undo every edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ..integrations.spec import KEY_VARIABLE, Edit, Item, Refusal, RunFile
from . import journal
from .documents import Set, Where
from .errors import LauncherError
from .journal import FileChange, FileEdit, WholeFile
from .keys import lasting_keys
from .launch import Aim, find_agent
from .plan import check_window
from .shapes import misshapen
from .state import OmlxHome


@dataclass(frozen=True, slots=True)
class WiringPlan:
    """What `omlx wire` would do: the edits, and the changes they make to the files as they stand."""

    agent: str
    title: str
    edits: tuple[FileEdit | WholeFile, ...]
    changes: tuple[FileChange, ...]
    warnings: tuple[str, ...]


def check_wirable(agent: str) -> None:
    """Before a server is looked for. Raises UnknownAgent, LauncherError for one that has no file to be wired in."""
    integration = find_agent(agent)
    if integration.edits is None:
        fact = f"{integration.title} cannot be wired for good: {integration.no_file}"
        raise LauncherError(f"{fact}; use `omlx launch {integration.name}`")


def plan_wiring(aim: Aim, home: OmlxHome, *, force: bool) -> WiringPlan:
    """Touches nothing; for an agent that `check_wirable` passed. Raises WindowTooSmall, EditError for a file that does
    not parse, LauncherError where the integration refuses."""
    integration = aim.integration
    assert integration.edits is not None
    # Without a server there is no window to check.
    unknown = aim.warnings
    if aim.client is not None:
        unknown = check_window(integration, aim.target, force=force, command="wire")
    warnings = (*unknown, *_key_warnings(aim, home))
    if integration.overrides is not None:
        warnings += integration.overrides(aim.target, aim.surroundings)
    # Files that stay, apart from those of single launches, which are swept.
    surroundings = replace(aim.surroundings, run_directory=home.wired_directory(integration.name))
    try:
        wanted = integration.edits(aim.target, surroundings)
    except Refusal as refusal:
        raise LauncherError(f"{integration.title} cannot be wired for good: {refusal}") from refusal
    edits = tuple(map(_journalled, wanted))
    changes = journal.preview(home.root, integration.name, edits)
    warnings += tuple(line for edit in wanted if isinstance(edit, Edit) and edit.shapes for line in misshapen(edit))
    warnings += tuple(aim.looker.warnings)
    return WiringPlan(integration.name, integration.title, edits, changes, warnings)


def apply_wiring(plan: WiringPlan, home: OmlxHome, now: datetime) -> tuple[Path, ...]:
    """Make the edits; the files that changed."""
    return tuple(change.path for change in journal.apply(home.root, plan.agent, plan.edits, now))


def wired_rows(wired: Sequence[journal.Wired]) -> list[tuple[str, str, str, str]]:
    """Agent, file, since when by the clock here, and how much of it is ours."""
    return [
        (entry.agent, str(entry.path), f"{entry.since.astimezone():%Y-%m-%d %H:%M}", _how_much(len(entry.values)))
        for entry in wired
    ]


def _how_much(num_values: int) -> str:
    return f"{num_values} value{'s' if num_values > 1 else ''}" if num_values else "the whole file"


def _key_warnings(aim: Aim, home: OmlxHome) -> tuple[str, ...]:
    if not aim.has_key or aim.is_key_in_shell:
        return ()
    name = aim.integration.name
    line = f'`export {KEY_VARIABLE}="$(omlx key show {name})"` in the shell that starts it, or in its profile, sets it'
    if not any(key.name == name for key in lasting_keys(home.root)):
        line = f"`omlx key new {name}` makes one, and {line}"
    return (f"the server asks for a key, which {aim.integration.title} takes from {KEY_VARIABLE}: {line}",)


def _journalled(edit: Edit | RunFile) -> FileEdit | WholeFile:
    if isinstance(edit, RunFile):
        return WholeFile(edit.path, edit.text)
    changes = ((tuple(_step(step) for step in path), value) for path, value in edit.values)
    return FileEdit(edit.path, edit.dialect, tuple(Set(path, value) for path, value in changes), edit.stamps)


def _step(step: str | Item) -> str | Where:
    return Where(step.key, step.value) if isinstance(step, Item) else step
