"""Codex (npm `@openai/codex`), checked with 0.169.0.

Codex speaks Responses only. `-c` overrides rank above the user's config.toml and its profiles, and their values are
TOML. Without an entry in a model catalog it takes an unknown model for a weak one: no `apply_patch`, a guessed
window, a base prompt of 17 KB. So a generated catalog names every served model. `model` stands in `-c` too, since
`-m` belongs to the subcommand. Codex gives up on a stream that is silent for 5 minutes, and counts events only, not
comments. At its very first start in a terminal Codex itself, with omlx or without, writes into the user's config.toml
that it has looked for a screen reader (`screen_reader_detection_done`): a record of its own, like its sessions and
history. It asks that file alone whether it has, so no override keeps it from writing.
"""

from __future__ import annotations

import json

from ._codex_catalog import catalog_file
from ._codex_layers import managed, own_file, project_files, quiet, window_of_the_model
from ._layers import set_in_files, toml_object
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, RunFile, Surroundings, Target, Wiring

_IDLE_MILLISECONDS = 3_600_000


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    catalog = catalog_file(target, surroundings)
    provider = {**_provider(target), "env_key": KEY_VARIABLE}
    ours = {
        **_settings(target, catalog),
        **window_of_the_model(target, surroundings),
        **{f"model_providers.{PROVIDER}.{key}": value for key, value in provider.items()},
        **quiet(surroundings),
    }
    flags = [part for key, value in ours.items() for part in ("-c", f"{key}={_toml(value)}")]
    return Wiring((*flags, *surroundings.arguments), files=(catalog,), warnings=managed(surroundings, ours))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit | RunFile, ...]:
    catalog = catalog_file(target, surroundings)
    key = {"env_key": KEY_VARIABLE} if surroundings.environ.get(KEY_VARIABLE) else {}
    values = {
        **_settings(target, catalog),
        **window_of_the_model(target, surroundings),
        **{f"model_providers.{PROVIDER}.{name}": value for name, value in {**_provider(target), **key}.items()},
        **quiet(surroundings),
    }
    paths = tuple((tuple(name.split(".")), value) for name, value in values.items())
    return catalog, Edit(own_file(surroundings), "toml", paths)


def overrides(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    """A project's config.toml, once it is trusted, and an administrator's rank above the user's."""
    ours = _settings(target, catalog_file(target, surroundings))
    keys = (*ours, "model_context_window", "model_auto_compact_token_limit", f"model_providers.{PROVIDER}")
    in_project = set_in_files(surroundings, project_files(surroundings), keys, toml_object)
    return (*in_project, *managed(surroundings, ours))


def _toml(value: object) -> str:
    """A JSON scalar is a TOML scalar too, save for surrogate pairs and a bare DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


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
    minimum_node=(16, 0),
    minimum_context=16_384,
    summary="`-c` overrides, which rank above config.toml, and a generated model catalog",
    wire=wire,
    edits=edits,
    overrides=overrides,
    user_agents=("codex_cli_rs", "codex_exec", "codex_vscode"),
)
