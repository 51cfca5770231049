"""The configuration that opencode and its fork Kilo read from a variable, merged over the user's own."""

from __future__ import annotations

import json
from pathlib import Path

from ._options import json_object, object_at
from .spec import KEY_VARIABLE, PROVIDER, Edit, Model, Surroundings, Target

_KEY = f"{{env:{KEY_VARIABLE}}}"
_NO_TIMEOUT = False


def inline_config(target: Target, surroundings: Surroundings, variable: str) -> str:
    """The JSON for `variable`; what the user put there already is kept, but for our keys."""
    own = json_object(surroundings.environ.get(variable) or None, surroundings)
    merged = {
        **own,
        **_models(target),
        "provider": {**object_at(own, "provider"), PROVIDER: _provider(target, _KEY)},
    }
    return json.dumps(merged, separators=(",", ":"))


def file_edit(target: Target, surroundings: Surroundings, path: Path) -> Edit:
    """The same in a file of the user's."""
    config = {**_models(target), "provider": {PROVIDER: _provider(target, surroundings.key(_KEY))}}
    return Edit.of(path, "jsonc", config, whole=("provider", PROVIDER))


def _models(target: Target) -> dict[str, object]:
    return {"model": f"{PROVIDER}/{target.model.name}", "small_model": f"{PROVIDER}/{target.haiku.name}"}


def _provider(target: Target, key: str) -> dict[str, object]:
    """The provider's block, with every served model."""
    return {
        "npm": "@ai-sdk/openai-compatible",
        "name": PROVIDER,
        "options": {
            "baseURL": target.openai_url,
            "apiKey": key,
            "timeout": _NO_TIMEOUT,
        },
        "models": {model.name: _model(model) for model in target.models},
    }


def _model(model: Model) -> dict[str, object]:
    entry: dict[str, object] = {"name": model.name, "reasoning": model.reasoning, "tool_call": True}
    if model.vision:
        entry |= {"attachment": True, "modalities": {"input": ["text", "image"], "output": ["text"]}}
    if model.context_window is not None:
        entry["limit"] = {"context": model.context_window, "output": model.max_output_tokens}
    return entry
