"""GitHub Copilot CLI (npm `@github/copilot`), checked with 1.0.102.

A provider of one's own is set by variables alone, needs no GitHub login, and holds one model a session.
`COPILOT_OFFLINE` ends its calls to GitHub. It takes the prompt's and the answer's share of the window separately. Its
settings.json has no key for a provider, so nothing in a file could wire it for good.
"""

from __future__ import annotations

from ._layers import foreign_agents
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
    folders = (surroundings.folder("COPILOT_HOME", ".copilot"), surroundings.directory / ".github")
    others = foreign_agents(surroundings, folders, ("agents/**/*.md",), target.model.name.__eq__)
    return Wiring(surroundings.arguments, environment, warnings=others)


INTEGRATION = Integration(
    name="copilot",
    title="GitHub Copilot CLI",
    executable="copilot",
    install="npm install -g @github/copilot",
    minimum_context=32_768,
    summary="variables for a provider of one's own; no GitHub login, and offline but for the server",
    wire=wire,
    no_file="it takes a provider of one's own from variables only, and its settings.json has no key for one",
    key_variables=("COPILOT_PROVIDER_API_KEY",),
    unset=(
        "COPILOT_PROVIDER_API_KEY_COMMAND",
        "COPILOT_PROVIDER_BEARER_TOKEN",
        "COPILOT_PROVIDER_HEADERS",
        "COPILOT_PROVIDER_MODEL_ID",
        "COPILOT_PROVIDER_TRANSPORT",
        "COPILOT_PROVIDER_WIRE_MODEL",
    ),
    user_agents=("github-copilot-cli",),
)
