"""aider (PyPI `aider-chat`), checked with 0.86.2.

Arguments rank above variables, and those above the user's .aider.conf.yml, whose key would otherwise be sent to us. Its
library knows windows and prices of models by name, so ours come in a metadata file. It calls no tools: edits are text.
"""

from __future__ import annotations

import json

from .spec import Integration, Model, RunFile, Surroundings, Target, Wiring


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    metadata = {_named(model): _limits(model) for model in target.models}
    file = RunFile.of(surroundings.run_directory, "models.json", json.dumps(metadata, indent=2) + "\n")
    arguments = (
        *("--openai-api-base", target.openai_url),
        *("--model", _named(target.model)),
        *("--weak-model", _named(target.haiku)),
        *("--editor-model", _named(target.sonnet)),
        *("--model-metadata-file", str(file.path)),
        *("--timeout", "3600"),
        *("--no-show-model-warnings", "--no-check-update", "--no-analytics"),
    )
    return Wiring((*arguments, *surroundings.arguments), files=(file,))


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
    key_variables=("OPENAI_API_KEY", "AIDER_OPENAI_API_KEY"),
)
