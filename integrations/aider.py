"""aider (PyPI `aider-chat`), checked with 0.86.2.

Arguments rank above variables, and those above the user's .aider.conf.yml, whose key would otherwise be sent to us. Its
library knows windows and prices of models by name, so ours come in a metadata file. It calls no tools: edits are text.
For good the same stands in .aider.conf.yml in the home; that file cannot name a variable, so aider must find a key in
`OPENAI_API_KEY`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ._layers import set_in_lines, set_in_shell, up_to_home
from .spec import KEY_VARIABLE, NO_KEY, Edit, Integration, Model, RunFile, Surroundings, Target, Wiring

_KEYS = ("OPENAI_API_KEY", "AIDER_OPENAI_API_KEY")


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    file = _metadata(target, surroundings)
    options = [part for name, value in _options(target, file).items() for part in (f"--{name}", str(value))]
    arguments = (*options, "--no-show-model-warnings", "--no-check-update", "--no-analytics", *surroundings.arguments)
    # A `.env` ranks above the shell, from which aider gets the key.
    return Wiring(arguments, files=(file,), warnings=_in_dotenv(surroundings, _KEYS[1:]))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit | RunFile, ...]:
    file = _metadata(target, surroundings)
    key = {} if surroundings.environ.get(KEY_VARIABLE) else {"openai-api-key": NO_KEY}
    config = {**_options(target, file), "show-model-warnings": False, "check-update": False, "analytics": False, **key}
    return file, Edit.of(surroundings.home / ".aider.conf.yml", "yaml", config)


def overrides(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    """A project's .aider.conf.yml ranks above the home's, and variables above both."""
    names = tuple(_options(target, _metadata(target, surroundings)))
    variables = tuple(f"AIDER_{name.upper().replace('-', '_')}" for name in names)
    project = (folder / ".aider.conf.yml" for folder in up_to_home(surroundings))
    key = surroundings.environ.get(KEY_VARIABLE)
    missing = key and key not in map(surroundings.environ.get, _KEYS)
    named = (f"aider takes the key from {_KEYS[0]} alone: set it to that of {KEY_VARIABLE} where aider starts",)
    return (
        *set_in_lines(surroundings, project, names),
        *set_in_shell(surroundings, variables),
        *_in_dotenv(surroundings, (*variables, *_KEYS)),
        *(named if missing else ()),
    )


def _in_dotenv(surroundings: Surroundings, names: tuple[str, ...]) -> tuple[str, ...]:
    folders = (surroundings.home, *up_to_home(surroundings))
    return set_in_lines(surroundings, (folder / ".env" for folder in folders), names)


def _metadata(target: Target, surroundings: Surroundings) -> RunFile:
    metadata = {_named(model): _limits(model) for model in target.models}
    return RunFile.of(surroundings.run_directory, "models.json", json.dumps(metadata, indent=2) + "\n")


def _options(target: Target, metadata: RunFile) -> Mapping[str, object]:
    return {
        "openai-api-base": target.openai_url,
        "model": _named(target.model),
        "weak-model": _named(target.haiku),
        "editor-model": _named(target.sonnet),
        "model-metadata-file": str(metadata.path),
        "timeout": 3600,
    }


def _named(model: Model) -> str:
    return f"openai/{model.name}"


def _limits(model: Model) -> dict[str, object]:
    entry = {
        "litellm_provider": "openai",
        "mode": "chat",
        "max_tokens": model.max_output_tokens,
        "max_output_tokens": model.max_output_tokens,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
    }
    return entry if model.context_window is None else {**entry, "max_input_tokens": model.context_window}


INTEGRATION = Integration(
    name="aider",
    title="aider",
    executable="aider",
    install="uv tool install --python 3.12 aider-chat",
    minimum_context=8192,
    summary="arguments, which rank above its settings files, and a metadata file with every served model",
    wire=wire,
    edits=edits,
    overrides=overrides,
    key_variables=_KEYS,
)
