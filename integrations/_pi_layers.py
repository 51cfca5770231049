"""Pi's settings: a project's rank above the user's, and a provider's timeout above that of all requests."""

from __future__ import annotations

from pathlib import Path

from ._layers import set_in_files
from .spec import Surroundings, Target


def own_folder(surroundings: Surroundings) -> Path:
    return surroundings.folder("PI_CODING_AGENT_DIR", ".pi/agent")


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    keys = ("defaultProvider", "defaultModel", "httpIdleTimeoutMs")
    return (*set_in_files(surroundings, (_project(surroundings),), keys), *other_timeouts(surroundings))


def other_timeouts(surroundings: Surroundings) -> tuple[str, ...]:
    paths = (own_folder(surroundings) / "settings.json", _project(surroundings))
    return set_in_files(surroundings, paths, ("retry.provider.timeoutMs",))


def _project(surroundings: Surroundings) -> Path:
    return surroundings.directory / ".pi" / "settings.json"
