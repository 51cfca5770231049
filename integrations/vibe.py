"""Mistral Vibe (PyPI `mistral-vibe`), checked with 3.0.2.

Its settings' layers end with `VIBE_*` variables, whose lists and tables are JSON: they rank above the user's
config.toml and are merged with it by name. Saved sessions name a model by its alias, so that is the model's own
name.
"""

from __future__ import annotations

import json

from .spec import KEY_VARIABLE, PROVIDER, Integration, Model, Surroundings, Target, Wiring


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    provider = {
        "name": PROVIDER,
        "api_base": target.openai_url,
        "api_key_env_var": KEY_VARIABLE,
        "api_style": "openai",
        "backend": "generic",
    }
    environment = {
        "VIBE_PROVIDERS": json.dumps([provider]),
        "VIBE_MODELS": json.dumps([_model(model) for model in target.models]),
        "VIBE_ACTIVE_MODEL": target.model.name,
        "VIBE_ALLOWED_MODELS": "[]",
        "VIBE_UTILITY_MODELS": json.dumps({"title": target.haiku.name}),
        "VIBE_API_TIMEOUT": "3600",
        "VIBE_ENABLE_TELEMETRY": "false",
        "VIBE_ENABLE_UPDATE_CHECKS": "false",
    }
    return Wiring(surroundings.arguments, environment)


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
)
