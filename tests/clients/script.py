"""What the model of the client matrix answers, and what every client must make of it.

The model answers by the words that stand last in its prompt, so that any number of clients can ask in any order.
"""

from __future__ import annotations

from typing import Any

_PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
_ROME = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'

HELLO = "Hello, 世界!"
FALLS = "I am about to fall."
"""The engine fails at the end of this answer."""

ANSWERS = {
    "fall over": FALLS,
    "say hello": HELLO,
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
    "plain": {"text": HELLO},
    "streaming": {"text": HELLO, "in_pieces": True},
    "tools": {"calls": [_PARIS_CALL], "text": "It is mild."},
    "streamed_tools": {"calls": [_PARIS_CALL]},
    "parallel_tools": {"calls": [_PARIS_CALL, _ROME_CALL], "text": "Rome is warmer."},
    "structured": {"value": {"name": "Ada", "age": 36}},
    "reasoning": {"reasoning": "Let me see.", "text": "Done."},
    "wrong_field": {"error": "BadRequestError"},
    "wrong_key": {"error": "AuthenticationError"},
    "unknown_model": {"error": "NotFoundError"},
    "overflow": {"error": "BadRequestError", "says": "prompt is too long: "},
    "too_large": {"error": "APIStatusError", "says": "too large"},
    "busy": {"error": "InternalServerError", "says": "requests wait already", "retry_after": "1"},
    "broken_stream": {"error": "APIError", "says": "the model fell over"},
}
"""By case: what a driver reports. Errors are of the official SDKs' types or derived from them, and say a few words.
`retry_after` is in the error's answer, where the client shows that."""


def answer_to(prompt: str) -> str:
    """The answer whose words stand last in the prompt; a prompt with no words of ours gets a short one."""
    words = max(ANSWERS, key=prompt.rfind)
    return ANSWERS[words] if words in prompt else "I see."
