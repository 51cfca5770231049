"""Mistral Vibe (PyPI `mistral-vibe`), checked with 3.0.2.

Its settings' layers end with `VIBE_*` variables, whose lists and tables are JSON: they rank above the user's
config.toml and are merged with it by name. Saved sessions name a model by its alias, so that is the model's own
name. For good the same stands in config.toml, as one more provider and its models. Agents of the user's own, in TOML
files, rank above all of it.
"""

from __future__ import annotations

import json

from ._vibe_layers import beside, overrides, own_folder
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, Item, Model, Surroundings, Target, Wiring

_TIMEOUT_SECONDS = 3600


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environment = {
        "VIBE_PROVIDERS": json.dumps([_provider(target, KEY_VARIABLE)]),
        "VIBE_MODELS": json.dumps([_model(model) for model in target.models]),
        "VIBE_ACTIVE_MODEL": target.model.name,
        "VIBE_ALLOWED_MODELS": "[]",
        "VIBE_UTILITY_MODELS": json.dumps({"title": target.haiku.name}),
        "VIBE_API_TIMEOUT": str(_TIMEOUT_SECONDS),
        "VIBE_ENABLE_TELEMETRY": "false",
        "VIBE_ENABLE_UPDATE_CHECKS": "false",
    }
    return Wiring(surroundings.arguments, environment, warnings=beside(surroundings))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    key = KEY_VARIABLE if surroundings.environ.get(KEY_VARIABLE) else ""
    values = (
        (("active_model",), target.model.name),
        (("api_timeout",), float(_TIMEOUT_SECONDS)),
        (("enable_telemetry",), False),
        (("enable_update_checks",), False),
        (("utility_models", "title"), target.haiku.name),
        (("providers", Item("name", PROVIDER)), _provider(target, key)),
        *((("models", Item("alias", model.name)), _model(model)) for model in target.models),
    )
    return (Edit(own_folder(surroundings) / "config.toml", "toml", values),)


def _provider(target: Target, key_variable: str) -> dict[str, object]:
    return {
        "name": PROVIDER,
        "api_base": target.openai_url,
        "api_key_env_var": key_variable,
        "api_style": "openai",
        "backend": "generic",
    }


def _model(model: Model) -> dict[str, object]:
    entry = {
        "name": model.name,
        "provider": PROVIDER,
        "alias": model.name,
        "max_output_tokens": model.max_output_tokens,
        "supports_images": model.vision,
        "thinking_levels": ["off", "low", "medium", "high"] if model.reasoning else [],
    }
    return entry if model.context_window is None else {**entry, "max_context_length": model.context_window}


INTEGRATION = Integration(
    name="vibe",
    title="Mistral Vibe",
    executable="vibe",
    install="uv tool install mistral-vibe",
    minimum_context=16_384,
    summary="`VIBE_*` variables, which rank above config.toml; every served model is listed",
    wire=wire,
    edits=edits,
    overrides=overrides,
    user_agents=("mistral-vibe",),
)
