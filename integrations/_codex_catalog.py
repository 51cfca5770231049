"""What Codex is told of models that it does not know by name."""

from __future__ import annotations

import json
from importlib.resources import files

from .spec import Model, RunFile, Surroundings, Target


def catalog_file(target: Target, surroundings: Surroundings) -> RunFile:
    instructions = files("omlx.templates").joinpath("codex_instructions.md").read_text(encoding="utf-8")
    entries = [_entry(model, number, instructions) for number, model in enumerate(target.models)]
    return RunFile.of(surroundings.run_directory, "models.json", json.dumps({"models": entries}, indent=2) + "\n")


def _entry(model: Model, priority: int, instructions: str) -> dict[str, object]:
    efforts = ("low", "medium", "high") if model.reasoning else ()
    window = {} if model.context_window is None else {"context_window": model.context_window}
    return {
        "slug": model.name,
        "display_name": model.name,
        "supported_reasoning_levels": [{"effort": effort, "description": effort} for effort in efforts],
        **({"default_reasoning_level": "medium"} if efforts else {}),
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "base_instructions": instructions,
        "support_verbosity": False,
        "apply_patch_tool_type": "freeform",
        "supports_parallel_tool_calls": True,
        "input_modalities": ["text", "image"] if model.vision else ["text"],
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "experimental_supported_tools": [],
        **window,
    }
