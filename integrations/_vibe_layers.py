"""Mistral Vibe's layers: a project's config.toml ranks above the user's, variables above both, agents above all."""

from __future__ import annotations

from pathlib import Path

from ._layers import set_in_files, set_in_lines, set_in_shell, toml_object, up_to_home
from .spec import Surroundings, Target

_SHELL = ("VIBE_ACTIVE_MODEL", "VIBE_ALLOWED_MODELS", "VIBE_MODELS", "VIBE_PROVIDERS", "VIBE_UTILITY_MODELS")


def own_folder(surroundings: Surroundings) -> Path:
    return surroundings.folder("VIBE_HOME", ".vibe")


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    """A project's config.toml, once its folder is trusted, and the variables rank above the user's."""
    keys = ("active_model", "allowed_models", "utility_models")
    project = [folder / ".vibe" / "config.toml" for folder in up_to_home(surroundings)]
    return (
        *set_in_files(surroundings, project, keys, toml_object),
        *set_in_files(surroundings, [own_folder(surroundings) / "config.toml"], ("allowed_models",), toml_object),
        *set_in_lines(surroundings, (own_folder(surroundings) / ".env",), _SHELL),
        *set_in_shell(surroundings, _SHELL),
        *beside(surroundings),
    )


def beside(surroundings: Surroundings) -> tuple[str, ...]:
    """What the variables do not set: models for a part of the work, and agents' own."""
    folders = (own_folder(surroundings), *(folder / ".vibe" for folder in up_to_home(surroundings)))
    agents = [path for folder in folders for path in surroundings.glob(folder, "agents/*.toml")]
    keys = ("vision_model", "compaction_model")
    return (
        *set_in_files(surroundings, [folder / "config.toml" for folder in folders], keys, toml_object),
        *set_in_files(surroundings, agents, ("active_model", *keys), toml_object),
    )
