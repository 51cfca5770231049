"""GitHub Copilot CLI (npm `@github/copilot`), checked with 1.0.102.

A provider of one's own is set by variables alone, needs no GitHub login, and holds one model a session.
`COPILOT_OFFLINE` ends its calls to GitHub. It takes the prompt's and the answer's share of the window separately.
"""

from __future__ import annotations

from .spec import Integration, Surroundings, Target, Wiring


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environment = {
        "COPILOT_PROVIDER_BASE_URL": target.openai_url,
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_WIRE_API": "completions",
        "COPILOT_PROVIDER_MAX_OUTPUT_TOKENS": str(target.model.max_output_tokens),
        "COPILOT_MODEL": target.model.name,
        "COPILOT_OFFLINE": "true",
    }
    window = target.model.context_window
    if window is not None:
        environment["COPILOT_PROVIDER_MAX_PROMPT_TOKENS"] = str(window - target.model.max_output_tokens)
    return Wiring(surroundings.arguments, environment)


INTEGRATION = Integration(
    name="copilot",
    title="GitHub Copilot CLI",
    executable="copilot",
    install="npm install -g @github/copilot",
    minimum_context=32_768,
    summary="variables for a provider of one's own; no GitHub login, and offline but for the server",
    wire=wire,
    key_variables=("COPILOT_PROVIDER_API_KEY",),
    unset=(
        "COPILOT_PROVIDER_API_KEY_COMMAND",
        "COPILOT_PROVIDER_BEARER_TOKEN",
        "COPILOT_PROVIDER_HEADERS",
        "COPILOT_PROVIDER_MODEL_ID",
        "COPILOT_PROVIDER_TRANSPORT",
        "COPILOT_PROVIDER_WIRE_MODEL",
    ),
)
