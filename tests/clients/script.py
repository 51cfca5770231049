"""What the model of the client matrix answers, and what every client must make of it.

The model answers by the words that stand last in its prompt, so that any number of clients can ask in any order.
"""

from __future__ import annotations

from typing import Any

_PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
_ROME = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'

ANSWERS = {
    "say hello": "Hello, 世界!",
    "weather in one city": _PARIS,
    "weather in two cities": f"{_PARIS}\n{_ROME}",
    "Paris: 18 degrees": "It is mild.",
    "Rome: 24 degrees": "Rome is warmer.",
    "describe Ada": '{"name": "Ada", "age": 36}',
    "think first": "<think>Let me see.</think>Done.",
}

WEATHER = {"Paris": "Paris: 18 degrees", "Rome": "Rome: 24 degrees"}
"""What the tool that the clients offer gives back."""

_PARIS_CALL = ["get_weather", {"city": "Paris"}]
_ROME_CALL = ["get_weather", {"city": "Rome"}]

OUTCOMES: dict[str, dict[str, Any]] = {
    "plain": {"text": "Hello, 世界!"},
    "streaming": {"text": "Hello, 世界!", "in_pieces": True},
    "tools": {"calls": [_PARIS_CALL], "text": "It is mild."},
    "streamed_tools": {"calls": [_PARIS_CALL]},
    "parallel_tools": {"calls": [_PARIS_CALL, _ROME_CALL], "text": "Rome is warmer."},
    "structured": {"value": {"name": "Ada", "age": 36}},
    "reasoning": {"reasoning": "Let me see.", "text": "Done."},
    "wrong_field": {"error": "BadRequestError"},
    "wrong_key": {"error": "AuthenticationError"},
    "unknown_model": {"error": "NotFoundError"},
    "overflow": {"error": "BadRequestError", "says": "prompt is too long: "},
}
"""By case: what a driver reports. Errors are of the official SDKs' types or derived from them, and say a few words."""


def answer_to(prompt: str) -> str:
    """The answer whose words stand last in the prompt; a prompt with no words of ours gets a short one."""
    words = max(ANSWERS, key=prompt.rfind)
    return ANSWERS[words] if words in prompt else "I see."
