"""Claude Code's layers of settings, and what in them ranks above ours: an administrator's over everything, a project's
over the user's file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ._layers import foreign_agents
from ._options import json_object, lenient_object, object_at
from .spec import Surroundings, Target

_FOLDERS = ("/etc/claude-code", "/Library/Application Support/ClaudeCode")
_MANAGED = tuple(Path(folder) / "managed-settings.json" for folder in _FOLDERS)
_TIERS = {"inherit", "default", "best", "opus", "sonnet", "haiku", "fable", "opusplan"}
_MODELS = ("fallbackModel", "advisorModel")
"""Keys that name models beside the main one; an inline value would be joined to theirs, not rank above it."""
_BODY = "CLAUDE_CODE_EXTRA_BODY"


def user_settings(surroundings: Surroundings) -> Path:
    return surroundings.folder("CLAUDE_CONFIG_DIR", ".claude") / "settings.json"


def above_inline(target: Target, surroundings: Surroundings, ours: Collection[str]) -> tuple[str, ...]:
    """What ranks above inline settings, or stands beside them; `ours` are the variables that these set."""
    keys = ("apiKeyHelper", "model", "availableModels")
    managed = (_named(path, _strict(path, surroundings), ours, keys) for path in _managed_files(surroundings))
    lines = (line for lines in managed for line in lines)
    return (*lines, *_windows_passed_over(target), *_other_models(target, surroundings))


def above_file(target: Target, surroundings: Surroundings, ours: Collection[str]) -> tuple[str, ...]:
    """What ranks above the user's settings.json, or stands beside it."""
    files = _project_files(surroundings)
    project = (_named(path, _lenient(path, surroundings), ours, ("apiKeyHelper",)) for path in files)
    return (*(line for lines in project for line in lines), *above_inline(target, surroundings, ours))


def _windows_passed_over(target: Target) -> Iterator[str]:
    """Claude Code takes a name like its own models' for one of these, and its window for known."""
    for model in target.tiers:
        if model.name.startswith("claude-") and model.context_window is not None:
            yield (
                f"Claude Code passes over the window of {model.name}, {model.context_window:,} tokens, for its name; "
                "rename its folder, so that it is served under a name that does not begin with `claude-`"
            )


def _managed_files(surroundings: Surroundings) -> Iterator[Path]:
    more = (path for file in _MANAGED for path in surroundings.glob(file.parent / "managed-settings.d", "[!.]*.json"))
    yield from filter(surroundings.read, (*_MANAGED, *more))


def _project_files(surroundings: Surroundings) -> tuple[Path, ...]:
    folder = surroundings.directory / ".claude"
    files = (folder / "settings.json", folder / "settings.local.json")
    return tuple(file for file in files if file != user_settings(surroundings))


def _strict(path: Path, surroundings: Surroundings) -> dict[str, object]:
    return json_object(str(path), surroundings)


def _lenient(path: Path, surroundings: Surroundings) -> dict[str, object]:
    return lenient_object(surroundings.read(path))


def _named(path: Path, settings: dict[str, object], ours: Collection[str], keys: tuple[str, ...]) -> Iterable[str]:
    named = [f"env.{name}" for name in sorted(object_at(settings, "env").keys() & set(ours))]
    named += [name for name in keys if name in settings]
    return (f"{path} sets {name}, which overrides omlx's" for name in named)


def _other_models(target: Target, surroundings: Surroundings) -> Iterator[str]:
    """Models of the user's own, for a part of the work: in settings, in agents, in what is added to each request."""
    served = {model.name for model in target.models}

    def is_ours(model: str) -> bool:
        return model.removesuffix("[1m]") in _TIERS | served

    own = user_settings(surroundings)
    for path in (own, *_project_files(surroundings)):
        settings = _lenient(path, surroundings)
        for key in _MODELS:
            value = settings.get(key)
            for model in value if isinstance(value, list) else [value]:
                if isinstance(model, str) and not is_ours(model):
                    yield f"{path} sets {key} to {model}, which the server has not"
        if "model" in lenient_object(str(object_at(settings, "env").get(_BODY) or "")):
            yield f"{path} sets env.{_BODY} with a model, which overrides omlx's"
    if "model" in lenient_object(surroundings.environ.get(_BODY)):
        yield f"this shell sets {_BODY} with a model, which overrides omlx's"
    yield from foreign_agents(
        surroundings, (own.parent, surroundings.directory / ".claude"), ("agents/**/*.md",), is_ours
    )
