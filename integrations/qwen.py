"""Qwen Code (npm `@qwen-code/qwen-code`), checked with 0.24.4.

Its system settings rank above the user's and are found by a variable, so a file of this run stands in for them and
takes the real ones in. They name every served model, its window, and the variable that holds the key. `--auth-type` and
`--model` rank above a choice saved by `/auth` or `/model`. Usage statistics would be sent to the outside.
"""

from __future__ import annotations

import json
from pathlib import Path

from ._layers import foreign_agents, set_in_files
from ._options import json_object, object_at
from .spec import KEY_VARIABLE, Edit, Integration, Model, RunFile, Surroundings, Target, Wiring

_SYSTEM_SETTINGS = "QWEN_CODE_SYSTEM_SETTINGS_PATH"
_SYSTEM = "/etc/qwen-code/settings.json"
_TIMEOUT_MILLISECONDS = 3_600_000


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    old_path = surroundings.environ.get(_SYSTEM_SETTINGS, _SYSTEM)
    old = json_object(old_path if surroundings.read(Path(old_path)) is not None else None, surroundings)
    settings = {
        **old,
        **_settings(target),
        "privacy": {**object_at(old, "privacy"), "usageStatisticsEnabled": False},
    }
    file = RunFile.of(surroundings.run_directory, "settings.json", json.dumps(settings, indent=2) + "\n")
    return Wiring(
        ("--auth-type", "openai", "--model", target.model.name, *surroundings.arguments),
        {_SYSTEM_SETTINGS: str(file.path), "QWEN_STREAM_IDLE_TIMEOUT_MS": str(_TIMEOUT_MILLISECONDS)},
        files=(file,),
        warnings=_agents(target, surroundings),
    )


def _agents(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    folders = (surroundings.folder("QWEN_HOME", ".qwen"), surroundings.directory / ".qwen")
    ours = {"inherit", "fast", *(model.name for model in target.models)}
    return foreign_agents(surroundings, folders, ("agents/**/*.md",), ours.__contains__)


def overrides(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    """A project's settings and an administrator's rank above the user's."""
    system = Path(surroundings.environ.get(_SYSTEM_SETTINGS) or _SYSTEM)
    keys = ("modelProviders", "fastModel", "model.name", "security.auth.selectedType")
    paths = (surroundings.directory / ".qwen" / "settings.json", system)
    return (*set_in_files(surroundings, paths, keys), *_agents(target, surroundings))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    config = {
        **_settings(target),
        "model": {"name": target.model.name},
        "security": {"auth": {"selectedType": "openai"}},
    }
    return (Edit.of(surroundings.folder("QWEN_HOME", ".qwen") / "settings.json", "jsonc", config),)


def _settings(target: Target) -> dict[str, object]:
    models = [_model(model, target.openai_url) for model in target.models]
    return {"modelProviders": {"openai": models}, "fastModel": target.haiku.name}


def _model(model: Model, url: str) -> dict[str, object]:
    generation: dict[str, object] = {
        "timeout": _TIMEOUT_MILLISECONDS,
        "samplingParams": {"max_tokens": model.max_output_tokens},
    }
    if model.context_window is not None:
        generation["contextWindowSize"] = model.context_window
    entry = {"id": model.name, "name": model.name, "baseUrl": url, "envKey": KEY_VARIABLE}
    return {**entry, "generationConfig": generation}


INTEGRATION = Integration(
    name="qwen",
    title="Qwen Code",
    executable="qwen",
    install="npm install -g @qwen-code/qwen-code",
    minimum_node=(22, 0),
    minimum_context=32_768,
    summary="a settings file of this run in the system settings' place; every served model is listed",
    wire=wire,
    edits=edits,
    overrides=overrides,
    unset=("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "QWEN_MODEL"),
    user_agents=("qwencode",),
)
