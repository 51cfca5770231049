"""goose (its own installer), wired after its documentation; it isn't in the registries that the tests use.

Variables rank above its config.yaml. Its OpenAI provider joins `OPENAI_HOST` and `OPENAI_BASE_PATH`. For good it gets a
provider of its own, which names the variable of the key; older and newer releases choose it by different keys.
"""

from __future__ import annotations

from pathlib import Path

from ._layers import set_in_lines, set_in_shell
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, Surroundings, Target, Wiring

_TIMEOUT_SECONDS = 3600
_DETOURS = (
    *("GOOSE_LEAD_MODEL", "GOOSE_LEAD_PROVIDER", "GOOSE_PLANNER_MODEL", "GOOSE_PLANNER_PROVIDER"),
    *("GOOSE_SUBAGENT_MODEL", "GOOSE_SUBAGENT_PROVIDER"),
)


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environment = {
        "GOOSE_PROVIDER": "openai",
        "GOOSE_MODEL": target.model.name,
        "GOOSE_FAST_MODEL": target.haiku.name,
        "GOOSE_MAX_TOKENS": str(target.max_output_tokens),
        "GOOSE_TELEMETRY_ENABLED": "false",
        "OPENAI_HOST": target.url,
        "OPENAI_BASE_PATH": "v1/chat/completions",
        "OPENAI_TIMEOUT": str(_TIMEOUT_SECONDS),
    }
    if target.context_window is not None:
        environment["GOOSE_CONTEXT_LIMIT"] = str(target.context_window)
    # Unset they would be looked up here.
    others = set_in_lines(surroundings, (_folder(surroundings) / "config.yaml",), (*_DETOURS, "OPENAI_BASE_URL"))
    return Wiring(surroundings.arguments, environment, warnings=others)


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    folder = _folder(surroundings)
    has_key = bool(surroundings.environ.get(KEY_VARIABLE))
    models = [{"name": model.name, "context_limit": model.context_window} for model in target.models]
    provider = {
        "name": PROVIDER,
        "engine": "openai",
        "display_name": PROVIDER,
        "api_key_env": KEY_VARIABLE if has_key else "",
        "requires_auth": has_key,
        "base_url": f"{target.openai_url}/chat/completions",
        "models": [model for model in models if model["context_limit"] is not None],
        "timeout_seconds": _TIMEOUT_SECONDS,
        "supports_streaming": True,
    }
    name = target.model.name
    chosen = {
        "active_provider": PROVIDER,
        "providers": {PROVIDER: {"enabled": True, "model": name, "configured": True}},
        "GOOSE_PROVIDER": PROVIDER,
        "GOOSE_MODEL": name,
        "GOOSE_FAST_MODEL": target.haiku.name,
        "GOOSE_MAX_TOKENS": target.max_output_tokens,
        "GOOSE_TELEMETRY_ENABLED": False,
    }
    return (
        Edit.of(folder / "custom_providers" / f"{PROVIDER}.json", "json", provider),
        Edit.of(folder / "config.yaml", "yaml", chosen, whole=("providers", PROVIDER)),
    )


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    in_file = set_in_lines(surroundings, (_folder(surroundings) / "config.yaml",), _DETOURS)
    ours = ("GOOSE_PROVIDER", "GOOSE_MODEL", "GOOSE_FAST_MODEL", "GOOSE_MAX_TOKENS", "GOOSE_CONTEXT_LIMIT")
    return (*in_file, *set_in_shell(surroundings, (*ours, *_DETOURS)))


def _folder(surroundings: Surroundings) -> Path:
    return surroundings.folder("XDG_CONFIG_HOME", ".config") / "goose"


INTEGRATION = Integration(
    name="goose",
    title="goose",
    executable="goose",
    install="brew install block-goose-cli",
    linux_install="curl -fsSL https://github.com/aaif-goose/goose/releases/download/stable/download_cli.sh | bash",
    minimum_context=32_768,
    summary="`GOOSE_*` and `OPENAI_*` variables, which rank above config.yaml",
    wire=wire,
    edits=edits,
    overrides=overrides,
    key_variables=("OPENAI_API_KEY",),
    unset=(*_DETOURS, "OPENAI_BASE_URL"),
)
