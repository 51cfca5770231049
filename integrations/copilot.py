"""GitHub Copilot CLI (npm `@github/copilot`), checked with 1.0.102.

For one run a provider of one's own is set by variables alone, needs no GitHub login, and holds one model a session.
`COPILOT_OFFLINE` ends its calls to GitHub. For good the provider stands in its providers.json, with every served model.
That file can hold a key and cannot name one, so it is wired for good only to a server that asks for none. It takes the
prompt's and the answer's share of the window separately.
"""

from __future__ import annotations

from pathlib import Path

from ._layers import foreign_agents, set_in_files, set_in_shell
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, Item, Model, Refusal, Surroundings, Target, Wiring

_PLACE = "COPILOT_PROVIDERS_CONFIG"
_DETOURS = (
    *("COPILOT_AGENT_MODEL", "COPILOT_ENABLE_ALT_PROVIDERS", "COPILOT_PROVIDER_API_KEY_COMMAND"),
    *("COPILOT_PROVIDER_BEARER_TOKEN", "COPILOT_PROVIDER_GHES_HOST", "COPILOT_PROVIDER_HEADERS"),
    *("COPILOT_PROVIDER_MODEL_ID", "COPILOT_PROVIDER_TRANSPORT", "COPILOT_PROVIDER_WIRE_MODEL"),
)


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
    return Wiring(surroundings.arguments, environment, warnings=_agents(surroundings, target.model.name))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    if surroundings.environ.get(KEY_VARIABLE):
        raise Refusal("the server asks for a key, which its providers.json can hold and cannot name; launch it instead")
    folder = _folder(surroundings)
    provider = {"type": "openai", "wireApi": "completions", "baseUrl": target.openai_url}
    models = ((("models", Item("name", _chosen(model))), _entry(model)) for model in target.models)
    path = surroundings.folder(_PLACE, str(folder / "providers.json"))
    return (
        Edit(path, "json", ((("providers", Item("name", PROVIDER)), provider), *models)),
        Edit.of(folder / "settings.json", "jsonc", {"model": _chosen(target.model)}),
    )


def overrides(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    """A repository's settings rank above the user's, and a provider of variables above those in the file."""
    repository = surroundings.directory / ".github" / "copilot"
    files = (repository / "settings.json", repository / "settings.local.json")
    return (
        *set_in_files(surroundings, files, ("model",)),
        *set_in_shell(surroundings, ("COPILOT_MODEL", "COPILOT_PROVIDER_BASE_URL", *_DETOURS)),
        *_agents(surroundings, *map(_chosen, target.models)),
    )


def _agents(surroundings: Surroundings, *ours: str) -> tuple[str, ...]:
    folders = (_folder(surroundings), surroundings.directory / ".github")
    return foreign_agents(surroundings, folders, ("agents/**/*.md",), ours.__contains__)


def _folder(surroundings: Surroundings) -> Path:
    return surroundings.folder("COPILOT_HOME", ".copilot")


def _chosen(model: Model) -> str:
    return f"{PROVIDER}/{model.name}"


def _entry(model: Model) -> dict[str, object]:
    entry: dict[str, object] = {"id": model.name, "provider": PROVIDER, "maxOutputTokens": model.max_output_tokens}
    if model.context_window is None:
        return entry
    prompt = model.context_window - model.max_output_tokens
    return {**entry, "maxPromptTokens": prompt, "maxContextWindowTokens": model.context_window}


INTEGRATION = Integration(
    name="copilot",
    title="GitHub Copilot CLI",
    executable="copilot",
    install="npm install -g @github/copilot",
    minimum_context=32_768,
    summary="variables for a provider of one's own; no GitHub login, and offline but for the server",
    wire=wire,
    edits=edits,
    overrides=overrides,
    key_variables=("COPILOT_PROVIDER_API_KEY",),
    unset=_DETOURS,
    user_agents=("github-copilot-cli",),
)
