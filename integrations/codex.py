"""Codex (npm `@openai/codex`), checked with 0.169.0.

Codex speaks Responses only. `-c` overrides rank above the user's config.toml and its profiles, and their values are
TOML. Without an entry in a model catalog it takes an unknown model for a weak one: no `apply_patch`, a guessed
window, a base prompt of 17 KB. So a generated catalog names every served model. `model` stands in `-c` too, since
`-m` belongs to the subcommand. Codex gives up on a stream that is silent for 5 minutes, and counts events only, not
comments.
"""

from __future__ import annotations

import json
from importlib.resources import files

from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, Model, RunFile, Surroundings, Target, Wiring

_IDLE_MILLISECONDS = 3_600_000


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    catalog = _catalog(target, surroundings)
    provider = {**_provider(target), "env_key": KEY_VARIABLE}
    overrides = {
        **_settings(target, catalog),
        **{f"model_providers.{PROVIDER}.{key}": value for key, value in provider.items()},
        "analytics.enabled": False,
        "check_for_update_on_startup": False,
    }
    # A JSON scalar is a TOML scalar too.
    flags = [part for key, value in overrides.items() for part in ("-c", f"{key}={json.dumps(value)}")]
    return Wiring((*flags, *surroundings.arguments), files=(catalog,))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit | RunFile, ...]:
    catalog = _catalog(target, surroundings)
    key = {"env_key": KEY_VARIABLE} if surroundings.environ.get(KEY_VARIABLE) else {}
    config = {**_settings(target, catalog), "model_providers": {PROVIDER: {**_provider(target), **key}}}
    return catalog, Edit.of(surroundings.folder("CODEX_HOME", ".codex") / "config.toml", "toml", config)


def _settings(target: Target, catalog: RunFile) -> dict[str, object]:
    return {
        "model": target.model.name,
        "review_model": target.model.name,
        "model_provider": PROVIDER,
        "model_catalog_json": str(catalog.path),
    }


def _provider(target: Target) -> dict[str, object]:
    return {
        "name": PROVIDER,
        "base_url": target.openai_url,
        "wire_api": "responses",
        "stream_idle_timeout_ms": _IDLE_MILLISECONDS,
    }


def _catalog(target: Target, surroundings: Surroundings) -> RunFile:
    instructions = files("omlx.templates").joinpath("codex_instructions.md").read_text(encoding="utf-8")
    entries = [_entry(model, number, instructions) for number, model in enumerate(target.models)]
    return RunFile.of(surroundings.run_directory, "models.json", json.dumps({"models": entries}, indent=2) + "\n")


def _entry(model: Model, priority: int, instructions: str) -> dict[str, object]:
    efforts = ("low", "medium", "high") if model.reasoning else ()
    window = {} if model.context_window is None else {"context_window": model.context_window}
    return {
        "slug": model.name,
        "display_name": model.name,
        "supported_reasoning_levels": [{"effort": effort, "description": effort} for effort in efforts],
        **({"default_reasoning_level": "medium"} if efforts else {}),
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "base_instructions": instructions,
        "support_verbosity": False,
        "apply_patch_tool_type": "freeform",
        "supports_parallel_tool_calls": True,
        "input_modalities": ["text", "image"] if model.vision else ["text"],
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "experimental_supported_tools": [],
        **window,
    }


INTEGRATION = Integration(
    name="codex",
    title="Codex",
    executable="codex",
    install="npm install -g @openai/codex",
    minimum_context=16_384,
    summary="`-c` overrides, which rank above config.toml, and a generated model catalog",
    wire=wire,
    edits=edits,
)
