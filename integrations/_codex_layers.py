"""Codex's layers: a project's config.toml and profiles rank above the user's, `-c` above those, an administrator's
above all; and settings of the user's that change what a model's own entry in the catalog says."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ._layers import toml_object, up_to_home
from ._options import object_at
from .spec import PROVIDER, Surroundings, Target

_MANAGED = Path("/etc/codex/managed_config.toml")
_WINDOW, _LIMIT = "model_context_window", "model_auto_compact_token_limit"


def own_file(surroundings: Surroundings) -> Path:
    return _folder(surroundings) / "config.toml"


def project_files(surroundings: Surroundings) -> list[Path]:
    return [folder / ".codex" / "config.toml" for folder in up_to_home(surroundings)]


def managed(surroundings: Surroundings, ours: Mapping[str, object]) -> tuple[str, ...]:
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


def window_of_the_model(target: Target, surroundings: Surroundings) -> dict[str, int]:
    """What beats the user's own window and limit for compaction, which rank above the catalog's.

    Only where the user has these: they hold for every model of a session, the catalog's for each its own. A limit that
    is lower than Codex's own, nine tenths of the window, is the user's to choose.
    """
    window = target.model.context_window
    if window is None:
        return {}
    windows, limits = (_given(surroundings, key) for key in (_WINDOW, _LIMIT))
    limit = window * 9 // 10
    beaten = {_WINDOW: window} if any(given != window for given in windows) else {}
    return beaten | ({_LIMIT: limit} if any(not isinstance(given, int) or given > limit for given in limits) else {})


def quiet(surroundings: Surroundings) -> dict[str, object]:
    """What ends the calls to the outside; plugins, whose list is fetched at each start, stay where there are some."""
    config = toml_object(surroundings.read(own_file(surroundings)))
    plugins = {} if config.get("plugins") or config.get("marketplaces") else {"features.plugins": False}
    return {"analytics.enabled": False, "check_for_update_on_startup": False, **plugins}


def _given(surroundings: Surroundings, key: str) -> Iterator[object]:
    """Every value of `key` in the user's, the profiles' and the project's files."""
    folder = _folder(surroundings)
    files = (own_file(surroundings), *surroundings.glob(folder, "*.config.toml"), *project_files(surroundings))
    for config in (toml_object(surroundings.read(path)) for path in files):
        profiles = object_at(config, "profiles")
        tables = (config, *(object_at(profiles, name) for name in profiles))
        yield from (table[key] for table in tables if key in table)


def _folder(surroundings: Surroundings) -> Path:
    return surroundings.folder("CODEX_HOME", ".codex")
