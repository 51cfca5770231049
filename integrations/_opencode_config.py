"""The configuration that opencode and its fork Kilo read from a variable, merged over the user's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType

from ._layers import foreign_agents, has, set_in_files, up_to_home
from ._options import json_object, lenient_object, object_at
from .spec import KEY_VARIABLE, PROVIDER, Edit, Model, Surroundings, Target

_KEY = f"{{env:{KEY_VARIABLE}}}"
_NO_TIMEOUT = False
_OLDER = MappingProxyType({"kilo": ".kilocode"})
"""A folder's former name, under which it is read too."""
_OURS = ("model", "small_model", f"provider.{PROVIDER}")


def inline_config(target: Target, surroundings: Surroundings, variable: str) -> str:
    """The JSON for `variable`; what the user put there already is kept, but for our keys."""
    own = json_object(surroundings.environ.get(variable) or None, surroundings)
    merged = {
        **own,
        **_models(target),
        "provider": {**object_at(own, "provider"), PROVIDER: _provider(target, _KEY)},
    }
    return json.dumps(merged, separators=(",", ":"))


def existing_file(surroundings: Surroundings, name: str) -> Path:
    """The user's own settings file, of several the one that ranks highest; where there is none, the one to make."""
    folder = own_folder(surroundings, name)
    names = (f"{name}.jsonc", f"{name}.json", "config.json")
    return next((folder / file for file in names if surroundings.read(folder / file) is not None), folder / names[1])


def file_edit(target: Target, surroundings: Surroundings, path: Path, **more: object) -> Edit:
    """The same in a file of the user's, with what a launch sets by variables where the file has a setting for it."""
    provider = _provider(target, surroundings.key(_KEY))
    config = {**_models(target), "provider": {PROVIDER: provider}, "autoupdate": False, **more}
    return Edit.of(path, "jsonc", config, whole=("provider", PROVIDER))


def foreign_settings(surroundings: Surroundings, name: str) -> tuple[str, ...]:
    """What of the user's own the inline configuration, which is merged key by key, leaves as it is, and what of an
    administrator's ranks above it.

    In the settings files of opencode or its fork `name`, and in agents that are Markdown files with front matter.
    """
    managed = [folder / file for folder in _managed_folders(name) for file in _files(name)]
    places = (*_user_files(surroundings, name), *_higher_files(surroundings, name), *managed)
    return (
        *set_in_files(surroundings, managed, _OURS),
        *_in_settings(surroundings, places),
        *_in_agents(surroundings, name),
    )


def settings_above_the_users(surroundings: Surroundings, name: str) -> tuple[str, ...]:
    """The same for wiring in the user's own file, above which a project's and the variables' rank too."""
    above = set_in_files(surroundings, _higher_files(surroundings, name), _OURS)
    variable = f"{name.upper()}_CONFIG_CONTENT"
    inline = lenient_object(surroundings.environ.get(variable))
    in_shell = (
        f"this shell sets {key} in {variable}, which overrides omlx's" for key in _OURS if has(inline, key.split("."))
    )
    return (*above, *in_shell, *foreign_settings(surroundings, name))


def _in_settings(surroundings: Surroundings, paths: Iterable[Path]) -> tuple[str, ...]:
    found: list[str] = []
    for path in paths:
        config = lenient_object(surroundings.read(path))
        for kind in ("agent", "mode", "command"):
            models = ((name, object_at(object_at(config, kind), name).get("model")) for name in object_at(config, kind))
            found += [
                f"{path} sets {kind}.{name}.model to {model}, so that agent goes there and not to omlx"
                for name, model in models
                if isinstance(model, str) and not model.startswith(f"{PROVIDER}/")
            ]
        enabled, disabled = config.get("enabled_providers"), config.get("disabled_providers")
        if isinstance(enabled, list) and PROVIDER not in enabled:
            found.append(f"{path} sets enabled_providers without {PROVIDER!r}, which hides omlx's models")
        if isinstance(disabled, list) and PROVIDER in disabled:
            found.append(f"{path} lists {PROVIDER!r} in disabled_providers, which hides omlx's models")
    return tuple(found)


def _in_agents(surroundings: Surroundings, name: str) -> tuple[str, ...]:
    places = (surroundings.home, *up_to_home(surroundings))
    folders = (own_folder(surroundings, name), *(place / dotted for place in places for dotted in _dotted(name)))
    patterns = tuple(f"{kind}{end}/**/*.md" for kind in ("agent", "mode", "command") for end in ("", "s"))
    return foreign_agents(surroundings, folders, patterns, lambda model: model.startswith(f"{PROVIDER}/"))


def own_folder(surroundings: Surroundings, name: str) -> Path:
    return surroundings.folder("XDG_CONFIG_HOME", ".config") / name


def _dotted(name: str) -> tuple[str, ...]:
    return (f".{name}", *filter(None, (_OLDER.get(name),)))


def _files(name: str) -> tuple[str, ...]:
    """A fork reads its parent's files too."""
    return tuple(f"{stem}.{suffix}" for stem in dict.fromkeys((name, "opencode")) for suffix in ("json", "jsonc"))


def _user_files(surroundings: Surroundings, name: str) -> tuple[Path, ...]:
    own = own_folder(surroundings, name)
    return (*(own / file for file in _files(name)), own / "config.json")


def _higher_files(surroundings: Surroundings, name: str) -> tuple[Path, ...]:
    """The one that a variable names, and those of the project, from this folder up to the home."""
    folders = [folder / place for folder in up_to_home(surroundings) for place in ("", *_dotted(name))]
    extra = surroundings.environ.get(f"{name.upper()}_CONFIG")
    named = (Path(extra),) if extra else ()
    return (*named, *(folder / file for folder in folders for file in _files(name)))


def _managed_folders(name: str) -> tuple[Path, ...]:
    return Path("/etc") / name, Path("/Library/Application Support") / name


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
