"""Crush (npm `@charmland/crush`), wired after its documentation: the npm package fetches its binary from elsewhere.

It has no layer of its own for one run, so it is wired for good: its crush.json, which is merged with a crushrc beside
it. Values may name variables. The large model works, the small one writes titles and summaries.
"""

from __future__ import annotations

from types import MappingProxyType

from ._layers import set_in_files, up_to_home
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, Model, Surroundings, Target

_QUIET = MappingProxyType({"disable_metrics": True, "disable_provider_auto_update": True})


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    provider = {
        "name": PROVIDER,
        "type": "openai-compat",
        "base_url": target.openai_url,
        "api_key": surroundings.key(f"${KEY_VARIABLE}"),
        "models": [_model(model) for model in target.models],
    }
    chosen = {"large": target.model, "small": target.haiku}
    models = {size: {"provider": PROVIDER, "model": model.name} for size, model in chosen.items()}
    path = surroundings.folder("XDG_CONFIG_HOME", ".config") / "crush" / "crush.json"
    config = {"providers": {PROVIDER: provider}, "models": models, "options": _QUIET}
    return (Edit.of(path, "json", config, whole=("providers", PROVIDER)),)


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    """A project's files, and the one in which Crush keeps the model last chosen in it, rank above the user's."""
    project = [folder / name for folder in up_to_home(surroundings) for name in ("crush.json", ".crush.json")]
    chosen = surroundings.folder("XDG_DATA_HOME", ".local/share") / "crush" / "crush.json"
    keys = ("models.large", "models.small", f"providers.{PROVIDER}")
    return set_in_files(surroundings, (*project, chosen), keys)


def _model(model: Model) -> dict[str, object]:
    entry = {
        "id": model.name,
        "name": model.name,
        "default_max_tokens": model.max_output_tokens,
        "can_reason": model.reasoning,
        "supports_attachments": model.vision,
    }
    return entry if model.context_window is None else {**entry, "context_window": model.context_window}


INTEGRATION = Integration(
    name="crush",
    title="Crush",
    executable="crush",
    install="npm install -g @charmland/crush",
    minimum_context=16_384,
    summary="for good only: its crush.json; every served model is listed",
    edits=edits,
    overrides=overrides,
)
