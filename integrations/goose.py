"""goose (its own installer), wired after its documentation; it isn't in the registries that the tests use.

Variables rank above its config.yaml. Its OpenAI provider joins `OPENAI_HOST` and `OPENAI_BASE_PATH`.
"""

from __future__ import annotations

from .spec import Integration, Surroundings, Target, Wiring


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environment = {
        "GOOSE_PROVIDER": "openai",
        "GOOSE_MODEL": target.model.name,
        "GOOSE_FAST_MODEL": target.haiku.name,
        "GOOSE_MAX_TOKENS": str(target.max_output_tokens),
        "GOOSE_TELEMETRY_ENABLED": "false",
        "OPENAI_HOST": target.url,
        "OPENAI_BASE_PATH": "v1/chat/completions",
        "OPENAI_TIMEOUT": "3600",
    }
    if target.context_window is not None:
        environment["GOOSE_CONTEXT_LIMIT"] = str(target.context_window)
    return Wiring(surroundings.arguments, environment)


INTEGRATION = Integration(
    name="goose",
    title="goose",
    executable="goose",
    install="brew install block-goose-cli",
    minimum_context=32_768,
    summary="`GOOSE_*` and `OPENAI_*` variables, which rank above config.yaml",
    wire=wire,
    key_variables=("OPENAI_API_KEY",),
    unset=(
        "GOOSE_LEAD_MODEL",
        "GOOSE_LEAD_PROVIDER",
        "GOOSE_PLANNER_MODEL",
        "GOOSE_PLANNER_PROVIDER",
        "OPENAI_BASE_URL",
    ),
)
