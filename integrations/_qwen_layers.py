"""Qwen Code's layers: an administrator's settings rank above a project's, and those above the user's."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from ._layers import foreign_agents, set_in_files
from .spec import Surroundings, Target

SYSTEM_SETTINGS, SYSTEM_DEFAULTS = "QWEN_CODE_SYSTEM_SETTINGS_PATH", "QWEN_CODE_SYSTEM_DEFAULTS_PATH"
_SYSTEM_FOLDERS = MappingProxyType(
    {"darwin": "/Library/Application Support/QwenCode", "win32": "C:\\ProgramData\\qwen-code"}
)


def system_settings(surroundings: Surroundings) -> Path:
    folder = Path(_SYSTEM_FOLDERS.get(surroundings.platform, "/etc/qwen-code"))
    return surroundings.folder(SYSTEM_SETTINGS, str(folder / "settings.json"))


def foreign_subagents(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    folders = (surroundings.folder("QWEN_HOME", ".qwen"), surroundings.directory / ".qwen")
    ours = {"inherit", "fast", *(model.name for model in target.models)}
    return foreign_agents(surroundings, folders, ("agents/**/*.md",), ours.__contains__)


def overrides(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    """A project's settings and an administrator's rank above the user's."""
    keys = ("modelProviders", "fastModel", "model.name", "security.auth.selectedType")
    paths = (surroundings.directory / ".qwen" / "settings.json", system_settings(surroundings))
    return (*set_in_files(surroundings, paths, keys), *foreign_subagents(target, surroundings))
