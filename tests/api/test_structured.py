"""A format that cannot be followed is refused in every dialect before anything is promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from .serving import MODEL, serving

BROKEN = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(["}}}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
CHAT_TOOL = {"type": "function", "function": {"name": "look", "parameters": BROKEN}}
MESSAGE_TOOL = {"name": "look", "description": "", "input_schema": BROKEN}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (
            "/v1/chat/completions",
            {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": BROKEN}}},
            "response_format.json_schema.schema",
        ),
        ("/v1/chat/completions", {**CHAT, "structured_outputs": {"regex": "(["}}, "structured_outputs.regex"),
        ("/v1/chat/completions", {**CHAT, "tools": [CHAT_TOOL], "tool_choice": "required"}, "tools"),
        (
            "/v1/completions",
            {"model": MODEL, "prompt": "Hi", "structured_outputs": {"grammar": "start: nothing"}},
            "structured_outputs.grammar",
        ),
        (
            "/v1/responses",
            {"model": MODEL, "input": "Hi", "text": {"format": {"type": "json_schema", "name": "a", "schema": BROKEN}}},
            "text.format.schema",
        ),
    ],
)
async def test_a_broken_format_is_400_and_named(tmp_path: Path, path: str, body: dict, param: str, stream: bool):
    async with serving(tmp_path, "Hi.") as server:
        refused = await server.client.post(path, json={**body, "stream": stream})
        after = await server.client.post("/v1/chat/completions", json=CHAT)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == param
    assert "cannot be followed" in error["message"]
    assert after.status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": BROKEN}}},
        {"tools": [MESSAGE_TOOL], "tool_choice": {"type": "any"}},
        {"tools": [MESSAGE_TOOL], "tool_choice": {"type": "tool", "name": "look"}},
    ],
)
async def test_a_broken_format_of_a_message_is_an_invalid_request(tmp_path: Path, fields: dict):
    async with serving(tmp_path, "Hi.") as server:
        refused = await server.client.post("/v1/messages", json={**CHAT, "max_tokens": 9, **fields})
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"


async def test_tools_that_are_not_forced_may_have_any_schema(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        answered = await server.client.post("/v1/chat/completions", json={**CHAT, "tools": [CHAT_TOOL]})
    assert answered.status_code == 200
