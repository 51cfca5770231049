"""Hermes (PyPI `hermes-agent`), checked with 0.19.0.

Hermes lays a managed folder's config.yaml over the user's own, key by key, and a variable says where that folder
is: so a file of this run wires it and the user's file, sessions and skills stay as they are. Every route is set,
since each has its own provider and a way of falling back to a cloud: main, delegation, each auxiliary task, the
mixture of agents, no fallback. `${…}` in it is expanded from the environment. Hermes refuses windows under 64,000.
"""

from __future__ import annotations

import json
from dataclasses import replace

from ._hermes_layers import DETOURS, in_dotenv, managed_folder, overrides
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, Refusal, RunFile, Shape, Surroundings, Target, Wiring

_KEY = f"${{{KEY_VARIABLE}}}"
_TIMEOUT_SECONDS = 3600
_TASKS = (
    *("approval", "background_review", "compression", "curator", "goal_judge", "kanban_decomposer", "mcp"),
    *("memory_query_rewrite", "moa_aggregator", "moa_reference", "monitor", "profile_describer", "skills_hub"),
    *("title_generation", "triage_specifier", "tts_audio_tags", "vision", "web_extract"),
)

_SHAPES = (
    Shape(("custom_providers",), list, ("name", "base_url|baseUrl|url|api")),
    Shape(("providers",), dict),
    Shape(("model_aliases",), dict, ("model",)),
)
"""Hermes passes over what is written otherwise, in silence or with a line in its log."""


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    managed = managed_folder(surroundings)
    if surroundings.read(managed / "config.yaml") is not None:
        raise Refusal(f"{managed} already manages it, and a launch would displace that")
    text = json.dumps(_config(target, _KEY), indent=2) + "\n"  # JSON is YAML.
    file = RunFile.of(surroundings.run_directory, "config.yaml", text)
    return Wiring(
        surroundings.arguments, {"HERMES_MANAGED_DIR": str(file.path.parent)}, (file,), in_dotenv(surroundings)
    )


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    config = _config(target, surroundings.key(_KEY))
    alias = {"model": target.model.name, "provider": PROVIDER, "base_url": target.openai_url}
    path = surroundings.folder("HERMES_HOME", ".hermes") / "config.yaml"
    edit = Edit.of(path, "yaml", config, whole=("providers", PROVIDER))
    # As one value, so that whatever stands there in the place of a mapping is repaired.
    values = (*edit.values, (("model_aliases", PROVIDER), alias))
    return (replace(edit, values=values, shapes=_SHAPES),)


def _config(target: Target, key: str) -> dict[str, object]:
    route = {"provider": PROVIDER, "base_url": target.openai_url, "api_key": key}
    small = {**route, "model": target.haiku.name, "timeout": _TIMEOUT_SECONDS}
    slot = {"provider": PROVIDER, "model": target.model.name}
    limits: dict[str, object] = {"max_tokens": target.model.max_output_tokens}
    if target.context_window is not None:
        limits["context_length"] = target.context_window
    models = {model.name: {"context_length": model.context_window} for model in target.models if model.context_window}
    return {
        "model": {**route, "default": target.model.name, **limits},
        "providers": {
            PROVIDER: {
                "name": PROVIDER,
                "base_url": target.openai_url,
                "key_env": KEY_VARIABLE,
                "models": models,
                "request_timeout_seconds": _TIMEOUT_SECONDS,
                "stale_timeout_seconds": _TIMEOUT_SECONDS,
            }
        },
        "delegation": {**route, "model": target.sonnet.name},
        "auxiliary": dict.fromkeys(_TASKS, small),
        "fallback_providers": [],
        "fallback_model": {},
        "moa": {
            "default_preset": "default",
            "active_preset": "",
            "presets": {"default": {"aggregator": slot, "reference_models": [slot]}},
        },
        "security": {"allow_lazy_installs": False},
    }


INTEGRATION = Integration(
    name="hermes",
    title="Hermes",
    executable="hermes",
    install="pipx install hermes-agent",
    minimum_context=64_000,
    summary="a managed folder of this run, laid over the user's config.yaml; every route and every served model",
    wire=wire,
    edits=edits,
    overrides=overrides,
    unset=DETOURS,
    user_agents=("hermes-agent",),
)
