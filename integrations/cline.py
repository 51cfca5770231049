"""Cline (npm `cline`), checked with 3.0.65.

A variable says where its file of providers is, and one of this run holds ours alone; the key comes from the
environment.
Its hub, a process in the background that would keep this run's wiring for later ones, is left out of it.
"""

from __future__ import annotations

import json

from .spec import Integration, RunFile, Surroundings, Target, Wiring

_PROVIDER = "openai-compatible"
_TIMEOUT_MILLISECONDS = 3_600_000


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    settings: dict[str, object] = {
        "provider": _PROVIDER,
        "model": target.model.name,
        "baseUrl": target.openai_url,
        "maxTokens": target.model.max_output_tokens,
        "timeout": _TIMEOUT_MILLISECONDS,
    }
    if target.model.context_window is not None:
        settings["contextWindow"] = target.model.context_window
    # It insists on a date; one that stays keeps the file the same.
    entry = {"settings": settings, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}
    providers = {"version": 1, "lastUsedProvider": _PROVIDER, "modes": {}, "providers": {_PROVIDER: entry}}
    file = RunFile.of(surroundings.run_directory, "providers.json", json.dumps(providers, indent=2) + "\n")
    environment = {"CLINE_PROVIDER_SETTINGS_PATH": str(file.path), "CLINE_SESSION_BACKEND_MODE": "local"}
    return Wiring(surroundings.arguments, environment, files=(file,))


INTEGRATION = Integration(
    name="cline",
    title="Cline",
    executable="cline",
    install="npm install -g cline",
    minimum_context=32_768,
    summary="a providers file of this run, named by a variable; one model a session",
    wire=wire,
    key_variables=("OPENAI_API_KEY",),
    unset=("CLINE_API_KEY", "CLINE_MODEL", "CLINE_PROVIDER"),
)
