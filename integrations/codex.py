"""Codex (npm `@openai/codex`), checked with 0.169.0.

Codex speaks Responses only. `-c` overrides rank above the user's config.toml and its profiles, and their values are
TOML. Without an entry in a model catalog it takes an unknown model for a weak one: no `apply_patch`, a guessed
window, a base prompt of 17 KB. So a generated catalog names every served model. `model` stands in `-c` too, since
`-m` belongs to the subcommand. Codex gives up on a stream that is silent for 5 minutes, and counts events only, not
comments.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

from ._codex_catalog import catalog_file
from ._layers import set_in_files, toml_object, up_to_home
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, RunFile, Surroundings, Target, Wiring

_IDLE_MILLISECONDS = 3_600_000
_MANAGED = Path("/etc/codex/managed_config.toml")


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    catalog = catalog_file(target, surroundings)
    provider = {**_provider(target), "env_key": KEY_VARIABLE}
    overrides = {
        **_settings(target, catalog),
        **{f"model_providers.{PROVIDER}.{key}": value for key, value in provider.items()},
        "analytics.enabled": False,
        "check_for_update_on_startup": False,
    }
    # A JSON scalar is a TOML scalar too.
    flags = [part for key, value in overrides.items() for part in ("-c", f"{key}={json.dumps(value)}")]
    return Wiring((*flags, *surroundings.arguments), files=(catalog,), warnings=_managed(surroundings, overrides))


def _managed(surroundings: Surroundings, ours: Mapping[str, object]) -> tuple[str, ...]:
    """An administrator's defaults are laid over everything at the start, `-c` included."""
    text = surroundings.read(_MANAGED)
    if text is None:
        return ()
    try:
        config = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return (f"{_MANAGED} does not parse, so nobody knows what it overrides",)
    named = {key for key in ours if key.partition(".")[0] in config and not key.startswith("model_providers.")}
    providers = config.get("model_providers", {})
    named |= {f"model_providers.{PROVIDER}"} if PROVIDER in providers else set()
    return tuple(f"{_MANAGED} sets {key}, which overrides omlx's" for key in sorted(named))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit | RunFile, ...]:
    catalog = catalog_file(target, surroundings)
    key = {"env_key": KEY_VARIABLE} if surroundings.environ.get(KEY_VARIABLE) else {}
    config = {**_settings(target, catalog), "model_providers": {PROVIDER: {**_provider(target), **key}}}
    return catalog, Edit.of(surroundings.folder("CODEX_HOME", ".codex") / "config.toml", "toml", config)


def overrides(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    """A project's config.toml, once it is trusted, and an administrator's rank above the user's."""
    ours = _settings(target, catalog_file(target, surroundings))
    project = [folder / ".codex" / "config.toml" for folder in up_to_home(surroundings)]
    keys = (*ours, f"model_providers.{PROVIDER}")
    return (*set_in_files(surroundings, project, keys, toml_object), *_managed(surroundings, ours))


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


INTEGRATION = Integration(
    name="codex",
    title="Codex",
    executable="codex",
    install="npm install -g @openai/codex",
    minimum_context=16_384,
    summary="`-c` overrides, which rank above config.toml, and a generated model catalog",
    wire=wire,
    edits=edits,
    overrides=overrides,
    user_agents=("codex_cli_rs", "codex_exec", "codex_vscode"),
)
