"""Qwen Code (npm `@qwen-code/qwen-code`), checked with 0.24.4.

Its system settings rank above the user's and are found by a variable, so a file of this run stands in for them and
takes the real ones in. They name every served model, its window, and the variable that holds the key. `--auth-type` and
`--model` rank above a choice saved by `/auth` or `/model`. Usage statistics would be sent to the outside,
and new versions asked for.
"""

from __future__ import annotations

import json
from types import MappingProxyType

from ._options import json_object, object_at
from ._qwen_layers import SYSTEM_DEFAULTS, SYSTEM_SETTINGS, foreign_subagents, overrides, system_settings
from .spec import KEY_VARIABLE, Edit, Integration, Model, RunFile, Surroundings, Target, Wiring

_TIMEOUT_MILLISECONDS = 3_600_000
_QUIET = MappingProxyType({"privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}})


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    system = system_settings(surroundings)
    old = json_object(None if surroundings.read(system) is None else str(system), surroundings)
    settings = {
        **old,
        **_settings(target),
        **{section: {**object_at(old, section), **values} for section, values in _QUIET.items()},
    }
    file = RunFile.of(surroundings.run_directory, "settings.json", json.dumps(settings, indent=2) + "\n")
    return Wiring(
        ("--auth-type", "openai", "--model", target.model.name, *surroundings.arguments),
        {
            SYSTEM_SETTINGS: str(file.path),
            # They are looked for beside the system settings.
            SYSTEM_DEFAULTS: surroundings.environ.get(SYSTEM_DEFAULTS) or str(system.parent / "system-defaults.json"),
            "QWEN_STREAM_IDLE_TIMEOUT_MS": str(_TIMEOUT_MILLISECONDS),
        },
        files=(file,),
        warnings=foreign_subagents(target, surroundings),
    )


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    config = {
        **_settings(target),
        **_QUIET,
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
