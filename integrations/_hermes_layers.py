"""Hermes' layers: an administrator's folder ranks above the user's config.yaml, and its `.env` above the shell."""

from __future__ import annotations

from pathlib import Path

from ._layers import set_in_lines, set_in_shell
from .spec import KEY_VARIABLE, Surroundings, Target

DETOURS = ("CUSTOM_BASE_URL", "HERMES_INFERENCE_MODEL", "HERMES_INFERENCE_PROVIDER", "HERMES_MODEL", "OPENAI_BASE_URL")
"""Variables that would send it elsewhere."""


def managed_folder(surroundings: Surroundings) -> Path:
    return Path(surroundings.environ.get("HERMES_MANAGED_DIR") or "/etc/hermes")


def in_dotenv(surroundings: Surroundings) -> tuple[str, ...]:
    """Its own `.env` ranks above the shell, and where there is none, the project's."""
    folders = (surroundings.folder("HERMES_HOME", ".hermes"), surroundings.directory)
    found = [folder / ".env" for folder in folders if surroundings.read(folder / ".env") is not None]
    return set_in_lines(surroundings, found[:1], (*DETOURS, KEY_VARIABLE))


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    managed = managed_folder(surroundings) / "config.yaml"
    keys = ("model", "providers", "delegation", "auxiliary", "fallback_providers", "fallback_model", "moa")
    return (
        *set_in_lines(surroundings, (managed,), keys),
        *in_dotenv(surroundings),
        *set_in_shell(surroundings, DETOURS),
    )
