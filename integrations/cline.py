"""Cline (npm `cline`), checked with 3.0.65.

A variable says where its file of providers is, and one of this run holds ours alone; the key comes from the
environment. Its hub, a process in the background that would keep this run's wiring for later ones, is left out of it.
For good, ours takes the place of its one OpenAI-compatible provider, and is the one last used. Its file cannot name a
variable, so Cline must find a key in `OPENAI_API_KEY`. Its telemetry has a switch only in its own settings file.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ._layers import set_in_shell
from .spec import KEY_VARIABLE, NO_KEY, Edit, Integration, RunFile, Surroundings, Target, Wiring

_PROVIDER = "openai-compatible"
_TIMEOUT_MILLISECONDS = 3_600_000
_PLACE, _KEY = "CLINE_PROVIDER_SETTINGS_PATH", "OPENAI_API_KEY"
_CHOICES = ("CLINE_API_KEY", "CLINE_MODEL", "CLINE_PROVIDER")


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    providers = {"version": 1, "lastUsedProvider": _PROVIDER, "modes": {}, "providers": {_PROVIDER: _entry(target)}}
    file = RunFile.of(surroundings.run_directory, "providers.json", json.dumps(providers, indent=2) + "\n")
    environment = {_PLACE: str(file.path), "CLINE_NO_AUTO_UPDATE": "1", "CLINE_SESSION_BACKEND_MODE": "local"}
    return Wiring(surroundings.arguments, environment, files=(file,))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    folder = Path(surroundings.environ.get("CLINE_DATA_DIR") or surroundings.folder("CLINE_DIR", ".cline") / "data")
    path = surroundings.folder(_PLACE, str(folder / "settings" / "providers.json"))
    own = surroundings.folder("CLINE_GLOBAL_SETTINGS_PATH", str(folder / "settings" / "global-settings.json"))
    key = {} if surroundings.environ.get(KEY_VARIABLE) else {"apiKey": NO_KEY}
    entry = _entry(target, **key)
    config = {"version": 1, "lastUsedProvider": _PROVIDER, "providers": {_PROVIDER: entry}}
    edit = Edit.of(path, "json", config, whole=("providers", _PROVIDER))
    return (
        replace(edit, stamps=(("providers", _PROVIDER, "updatedAt"),)),
        Edit.of(own, "json", {"telemetryOptOut": True}),
    )


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    key = surroundings.environ.get(KEY_VARIABLE)
    missing = key and surroundings.environ.get(_KEY) != key
    named = (f"Cline takes the key from {_KEY} alone: set it to that of {KEY_VARIABLE} where Cline starts",)
    return (*set_in_shell(surroundings, _CHOICES), *(named if missing else ()))


def _entry(target: Target, **more: object) -> dict[str, object]:
    settings: dict[str, object] = {
        "provider": _PROVIDER,
        "model": target.model.name,
        "baseUrl": target.openai_url,
        "maxTokens": target.model.max_output_tokens,
        "timeout": _TIMEOUT_MILLISECONDS,
        **more,
    }
    if target.model.context_window is not None:
        settings["contextWindow"] = target.model.context_window
    # It insists on a date; one that stays keeps the file the same.
    return {"settings": settings, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}


INTEGRATION = Integration(
    name="cline",
    title="Cline",
    executable="cline",
    install="npm install -g cline",
    minimum_context=32_768,
    summary="a providers file of this run, named by a variable; one model a session",
    wire=wire,
    edits=edits,
    overrides=overrides,
    key_variables=(_KEY,),
    unset=_CHOICES,
)
