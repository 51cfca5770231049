"""A model in the form that both Pi and OpenClaw read."""

from __future__ import annotations

from .spec import Model


def model_entry(model: Model) -> dict[str, object]:
    """One model. Prices are zero; the window is left out where the server does not say."""
    entry: dict[str, object] = {
        "id": model.name,
        "name": model.name,
        "reasoning": model.reasoning,
        "input": ["text", "image"] if model.vision else ["text"],
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
        "maxTokens": model.max_output_tokens,
    }
    return entry if model.context_window is None else {**entry, "contextWindow": model.context_window}
