"""The chat templates that come with omlx: each renders all an agent sends, and the same way in every later turn."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from omlx.server.prompts.chat_template import ChatTemplate
from omlx.server.prompts.template_traits import probe

TEMPLATES = sorted(path.name for path in files("omlx.templates").joinpath("chat").iterdir())
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "…", "parameters": {}}}]
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Paris and London?"},
    {
        "role": "assistant",
        "content": "I will look.",
        "reasoning_content": "Two calls.",
        "tool_calls": [
            {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}},
            {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "London"}'}},
        ],
    },
    {"role": "tool", "content": "sunny"},
    {"role": "tool", "content": "rain"},
    {"role": "assistant", "content": "Sun in Paris, rain in London."},
    {"role": "user", "content": "Thanks."},
]


@pytest.fixture(params=TEMPLATES)
def template(request: pytest.FixtureRequest) -> ChatTemplate:
    return ChatTemplate(files("omlx.templates").joinpath("chat", request.param).read_text(encoding="utf-8"))


def test_it_renders_all_an_agent_sends(template: ChatTemplate) -> None:
    traits = probe(template)
    assert traits.renders_tools
    assert traits.renders_calls
    assert traits.parallel_calls
    assert traits.system_anywhere
    assert traits.reasoning_field
    text = template.render(CONVERSATION, TOOLS)
    for words in ("Be brief.", "get_weather", "Two calls.", '"Paris"', '"London"', "sunny", "rain", "Thanks."):
        assert words in text


@pytest.mark.parametrize("tools", [[], TOOLS])
def test_a_longer_conversation_begins_with_the_shorter_one(template: ChatTemplate, tools: list[dict[str, Any]]) -> None:
    for length in (1, 2, 3, 5, 6, 7):
        shorter = template.render(CONVERSATION[:length], tools, add_generation_prompt=False)
        longer = template.render([*CONVERSATION[:length], {"role": "user", "content": "More."}], tools)
        assert longer.startswith(shorter)


def test_thinking_can_be_turned_off(template: ChatTemplate) -> None:
    on = template.render(CONVERSATION[:2])
    off = template.render(CONVERSATION[:2], options={"enable_thinking": False})
    assert off.startswith(on)
    assert off.removeprefix(on).split() == ["<think>", "</think>"]
