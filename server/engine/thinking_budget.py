"""How many tokens a request's answer may think for."""

from __future__ import annotations

from collections.abc import Collection

from ..requests import GenerationRequest, ReasoningOptions

_EFFORTS = {"minimal": 512, "low": 2048, "medium": 8192}
"""For templates that say nothing of efforts. More than medium is as much as the model likes."""


def budget_of(request: GenerationRequest, defaults: ReasoningOptions, variables: Collection[str]) -> int | None:
    """The request's own number, else what its effort comes to where the template, which reads `variables`, does not
    read that itself, else the model's setting. None is without end."""
    reasoning = request.reasoning
    if reasoning.enabled is False:
        return None
    option = request.template_options.get("thinking_budget")
    if isinstance(option, int) and not isinstance(option, bool) and option >= 0:
        return option
    if reasoning.budget_tokens is not None:
        return reasoning.budget_tokens
    if reasoning.effort is not None and "reasoning_effort" not in variables:
        return _EFFORTS.get(reasoning.effort)
    return defaults.budget_tokens
