"""What no dialect takes, and under which name it is refused; and what is ignored, with a line in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from omlx.server.dialects import anthropic_messages, openai_chat, wire
from omlx.server.dialects.base import Dialect
from omlx.server.dialects.openai_response_store import ResponseStore
from omlx.server.dialects.openai_responses import ResponsesDialect
from omlx.server.errors import InvalidRequest
from omlx.server.requests import ToolChoice

from .samples import Json, body

RESPONSES = ResponsesDialect(ResponseStore())
USER: Json = {"role": "user", "content": "x"}
CHAT: Json = {"model": "m", "messages": [USER]}
MESSAGE: Json = {**CHAT, "max_tokens": 9}
RESPONSE: Json = {"model": "m", "input": "x"}
DEEP = json.dumps({"a": None}).replace("null", "[" * 500 + "]" * 500)
VERY_DEEP = DEEP.replace("[" * 500, "[" * 100_000)


def image(part: Json) -> Json:
    return {**CHAT, "messages": [{"role": "user", "content": [part]}]}


def url(data: str) -> Json:
    return image({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})


def called(arguments: str) -> Json:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {**CHAT, "messages": [USER, {"role": "assistant", "tool_calls": [call]}]}


def responded(arguments: str) -> Json:
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": arguments}
    return {"model": "m", "input": [USER, call]}


def called_often(arguments: str, times: int) -> Json:
    fields = called(arguments)
    fields["messages"][1]["tool_calls"] *= times
    return fields


def responded_often(arguments: str, times: int) -> Json:
    fields = responded(arguments)
    return {**fields, "input": [USER, *fields["input"][1:] * times]}


@pytest.mark.parametrize(("dialect", "often"), [(openai_chat, called_often), (RESPONSES, responded_often)])
def test_what_the_arguments_of_all_calls_hold_is_bounded(dialect: Dialect, often: Callable[[str, int], Json]) -> None:
    lists, text = json.dumps([[]] * 30_000), json.dumps({"text": "{[," * 30_000})
    assert dialect.decode(body(often(lists, 8)), "req_1")
    assert dialect.decode(body(often(text, 40)), "req_1")
    with pytest.raises(InvalidRequest, match="more than 250000 objects"):
        dialect.decode(body(often(lists, 40)), "req_1")


def budget(value: Any) -> Json:
    return {**CHAT, "chat_template_kwargs": {"thinking_budget": value}}


@pytest.mark.parametrize(
    ("dialect", "fields", "param"),
    [
        (openai_chat, called(DEEP), "messages.1.tool_calls.0.function.arguments"),
        (openai_chat, called(VERY_DEEP), "messages.1.tool_calls.0.function.arguments"),
        (RESPONSES, responded(DEEP), "input.1.arguments"),
        (RESPONSES, responded(VERY_DEEP), "input.1.arguments"),
        *(
            (openai_chat, budget(value), "chat_template_kwargs.thinking_budget")
            for value in (2**64, -1, "x", 1.5, True)
        ),
        (openai_chat, {**CHAT, "reasoning_effort": "bogus"}, "reasoning_effort"),
        (anthropic_messages, {**MESSAGE, "output_config": {"effort": "bogus"}}, "output_config.effort"),
        (RESPONSES, {**RESPONSE, "reasoning": {"effort": "bogus"}}, "reasoning.effort"),
        (RESPONSES, {**RESPONSE, "reasoning": {"summary": "bogus"}}, "reasoning.summary"),
        (RESPONSES, {**RESPONSE, "truncation": "bogus"}, "truncation"),
        (RESPONSES, {**RESPONSE, "text": {"verbosity": "bogus"}}, "text.verbosity"),
        (RESPONSES, {**RESPONSE, "max_tool_calls": -1}, "max_tool_calls"),
        (openai_chat, {**CHAT, "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        (openai_chat, image({"type": "image_url"}), "messages.0.content.0.image_url"),
        (openai_chat, image({"type": "image_url", "image_url": {"url": ""}}), "messages.0.content.0.image_url"),
        (openai_chat, url(""), "messages.0.content.0.image_url"),
        (openai_chat, url("aGVsbG8="), "messages.0.content.0.image_url"),
        (openai_chat, {**CHAT, "structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        (openai_chat, {**CHAT, "structured_outputs": {"json": "[1]"}}, "structured_outputs.json"),
    ],
)
def test_the_field_is_named(dialect: Dialect, fields: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        dialect.decode(body(fields), "req_1")
    assert refused.value.param == param


@pytest.mark.parametrize("arguments", ["{" * 99, "[" * 200 + "no JSON", "{}" * 60, '{"a": "' + "[" * 200 + '"}'])
def test_arguments_that_are_no_json_or_not_deep_are_taken_as_they_are(arguments: str) -> None:
    openai_chat.decode(body(called(arguments)), "req_1")
    RESPONSES.decode(body(responded(arguments)), "req_1")


@pytest.mark.parametrize("kind", ["web_search_preview", "mcp", "file_search"])
def test_a_choice_of_a_tool_that_is_ignored_is_ignored(kind: str) -> None:
    fields = {**RESPONSE, "tools": [{"type": kind}], "tool_choice": {"type": kind}}
    assert RESPONSES.decode(body(fields), "req_1").request.tool_choice == ToolChoice()
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": kind}]}
    assert RESPONSES.decode(body({**fields, "tool_choice": allowed}), "req_1").request.tool_choice == ToolChoice()
    hosted = {"tools": [{"type": "web_search_20250305", "name": kind}], "tool_choice": {"type": "tool", "name": kind}}
    assert anthropic_messages.decode(body({**MESSAGE, **hosted}), "req_1").request.tool_choice == ToolChoice()


def test_a_kind_is_told_of_once_and_its_later_requests_in_detail_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire.Ignored, "_told", set())
    caplog.set_level(logging.DEBUG)
    for kind in ("hologram", "hologram", "seance"):
        openai_chat.decode(body({**CHAT, "tools": [{"type": kind}]}), "req_1")
    assert [(record.levelname, kind in record.message) for record, kind in zip(
        caplog.records, ("hologram", "hologram", "seance"), strict=True
    )] == [("INFO", True), ("DEBUG", True), ("INFO", True)]  # fmt: skip


def test_only_names_are_told_of_what_is_ignored(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire.Ignored, "_told", set())
    caplog.set_level(logging.DEBUG)
    prompt = "Dear Ann, my password"
    for kind in (prompt, f"{prompt} again", "w" * 41):
        openai_chat.decode(body({**CHAT, "tools": [{"type": kind}], kind: 1}), "req_1")
        RESPONSES.decode(body({**RESPONSE, "include": [kind], "tools": [{"type": "seance"}]}), "req_1")
    assert not [word for word in ("Ann", "password", "www") if word in caplog.text]
    assert caplog.messages[0] == "req_1: ignored an unknown one, tools.0 (an unknown one)"
    assert wire.Ignored._told == {"an unknown one", "'seance'"}


def test_one_request_cannot_fill_what_is_kept_of_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.Ignored, "_told", set())
    fields = {**RESPONSE, "include": [f"kind.{number}" for number in range(1000)]}
    for _ in range(2):
        RESPONSES.decode(body(fields), "req_1")
        assert len(wire.Ignored._told) == 256


@pytest.mark.parametrize(
    ("system", "kept"),
    [
        ("x-anthropic-billing-header: cc=1;", []),
        ("x-anthropic-billing-header: cc=1;\nYou help.", ["You help."]),
        ([{"type": "text", "text": "x-anthropic-billing-header: a;"}, {"type": "text", "text": "Help."}], ["Help."]),
        ("Of x-anthropic-billing-header: cc=1;\nand more", ["Of x-anthropic-billing-header: cc=1;\nand more"]),
    ],
)  # fmt: skip
def test_only_the_line_of_the_billing_is_dropped(system: Any, kept: list[str]) -> None:
    request = anthropic_messages.decode(body({**MESSAGE, "system": system}), "req_1").request
    assert [message.text for message in request.messages[:-1]] == kept
