"""The server over HTTP: what clients get, and what happens when they, or the engine, go away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from ..text_model import build_text_model
from ..waiting import until
from .serving import MODEL, Serving, serving

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
USER = [{"role": "user", "content": "hello"}]
CHAT_BODY = {"model": MODEL, "messages": USER}
MESSAGES_BODY = {"model": MODEL, "messages": USER, "max_tokens": 1000}
SLOW = 0.05
"""Seconds a step: an answer of a thousand tokens takes five times as long as `until` waits."""
ENDPOINTS = [(CHAT, CHAT_BODY), (MESSAGES, MESSAGES_BODY)]


def records(body: str) -> list[dict]:
    """The JSON of every server-sent event."""
    lines = (line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def streamed_text(path: str, body: str) -> str:
    if path == CHAT:
        choices = [choice for record in records(body) for choice in record["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)
    deltas = [record["delta"] for record in records(body) if record["type"] == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas)


def num_running(server: Serving) -> int:
    stats = server.pool.engines[MODEL].stats
    return stats.num_running + stats.num_waiting


async def test_a_chat_completion_holds_the_whole_answer(tmp_path: Path):
    async with serving(tmp_path, "Hi there.") as server:
        answer = (await server.client.post(CHAT, json=CHAT_BODY)).raise_for_status().json()
    assert answer["choices"][0]["message"]["content"] == "Hi there."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == len("Hi there.")


async def test_a_message_holds_the_whole_answer(tmp_path: Path):
    async with serving(tmp_path, "Hi there.") as server:
        answer = (await server.client.post(MESSAGES, json=MESSAGES_BODY)).raise_for_status().json()
    assert answer["content"] == [{"type": "text", "text": "Hi there."}]
    assert answer["stop_reason"] == "end_turn"


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
async def test_a_stream_carries_the_same_answer_in_pieces(tmp_path: Path, path: str, body: dict):
    async with serving(tmp_path, "Grüße, 世界 🙂!") as server:
        response = await server.client.post(path, json={**body, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert streamed_text(path, response.text) == "Grüße, 世界 🙂!"


async def test_a_tool_call_comes_out_as_one(tmp_path: Path):
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    async with serving(tmp_path, call) as server:
        answer = (await server.client.post(CHAT, json={**CHAT_BODY, "tools": [tool]})).raise_for_status().json()
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}


@pytest.mark.parametrize(
    ("path", "body", "once"),
    [
        (CHAT, {"messages": USER}, {"parallel_tool_calls": False}),
        (
            MESSAGES,
            {"messages": USER, "max_tokens": 4000},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ),
        ("/v1/responses", {"input": USER}, {"parallel_tool_calls": False}),
    ],
)
async def test_where_one_call_is_allowed_the_second_ends_the_answer_and_the_work(
    tmp_path: Path, path: str, body: dict, once: dict
):
    schema = {"type": "object", "properties": {}}
    tool = {
        CHAT: {"type": "function", "function": {"name": "ping", "parameters": schema}},
        MESSAGES: {"name": "ping", "input_schema": schema},
        "/v1/responses": {"type": "function", "name": "ping", "parameters": schema},
    }[path]
    call = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>\n'
    async with serving(tmp_path, call * 2 + "four " * 500, step_seconds=SLOW) as server:
        response = await server.client.post(path, json={"model": MODEL, "tools": [tool], **body, **once})
        await until(lambda: num_running(server) == 0)
    assert response.raise_for_status().text.count('"ping"') == 1 + (path == "/v1/responses")
    assert "four" not in response.text
    assert any(reason in response.text for reason in ('"tool_calls"', '"tool_use"', '"completed"'))


async def test_a_stop_sequence_ends_the_answer_and_the_work(tmp_path: Path):
    async with serving(tmp_path, "one two three" + " four" * 500, step_seconds=SLOW) as server:
        answer = (await server.client.post(MESSAGES, json={**MESSAGES_BODY, "stop_sequences": [" thr"]})).json()
        await until(lambda: num_running(server) == 0)
    assert answer["content"][0]["text"] == "one two"
    assert answer["stop_reason"] == "stop_sequence"
    assert answer["stop_sequence"] == " thr"


async def test_the_second_turn_reuses_the_first_ones_prefix(tmp_path: Path):
    async with serving(tmp_path, "Hi.", "Fine.") as server:
        first = (await server.client.post(MESSAGES, json=MESSAGES_BODY)).json()
        turns = [*USER, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "how are you?"}]
        second = (await server.client.post(MESSAGES, json={**MESSAGES_BODY, "messages": turns})).json()
    assert second["usage"]["cache_read_input_tokens"] >= first["usage"]["input_tokens"]


async def test_tools_in_another_order_are_the_same_tools(tmp_path: Path):
    def tool(name: str, *properties: str) -> dict:
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in properties}}
        return {"type": "function", "function": {"name": name, "parameters": schema}}

    body = {"model": MODEL, "messages": USER}
    async with serving(tmp_path, "Hi.") as server:
        first = body | {"tools": [tool("write", "path", "content"), tool("bash", "command")]}
        again = body | {"tools": [tool("bash", "command"), tool("write", "content", "path")]}
        await server.client.post("/v1/chat/completions", json=first)
        usage = (await server.client.post("/v1/chat/completions", json=again)).json()["usage"]
    assert usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] < 20


async def test_counted_tokens_are_the_tokens_of_the_prompt(tmp_path: Path):
    tool = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}
    asked = {"model": MODEL, "system": "Be brief.", "messages": USER, "tools": [tool]}
    async with serving(tmp_path, "Hi.") as server:
        counted = (await server.client.post(f"{MESSAGES}/count_tokens", json=asked)).json()
        bare = (await server.client.post(f"{MESSAGES}/count_tokens", json={"model": MODEL, "messages": USER})).json()
        loaded = dict(server.pool.engines)
        used = (await server.client.post(MESSAGES, json={**asked, "max_tokens": 9})).json()["usage"]["input_tokens"]
    assert loaded == {}, "counting loads no weights"
    assert counted == {"input_tokens": used}
    assert bare["input_tokens"] < used - 50


async def test_max_tokens_is_clamped_to_what_the_window_leaves(tmp_path: Path):
    async with serving(tmp_path, "x" * 500, context_window=150) as server:
        answer = (await server.client.post(CHAT, json={**CHAT_BODY, "max_tokens": 32000})).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 150


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_over_the_window_is_refused_in_the_words_clients_know(tmp_path: Path, stream: bool):
    long = [{"role": "user", "content": "x" * 5000}]
    async with serving(tmp_path, "Hi.") as server:
        chat = await server.client.post(CHAT, json={**CHAT_BODY, "messages": long, "stream": stream})
        message = await server.client.post(MESSAGES, json={**MESSAGES_BODY, "messages": long, "stream": stream})
    assert (chat.status_code, chat.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert message.status_code == 400
    assert message.json()["error"]["message"].startswith("prompt is too long: 50")
    assert message.json()["error"]["message"].endswith(" tokens > 4095 maximum")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_404_and_names_the_others(tmp_path: Path, stream: bool):
    async with serving(tmp_path, "Hi.") as server:
        chat = await server.client.post(CHAT, json={**CHAT_BODY, "model": "gpt-6", "stream": stream})
        message = await server.client.post(MESSAGES, json={**MESSAGES_BODY, "model": "gpt-6", "stream": stream})
    assert (chat.status_code, chat.json()["error"]["code"]) == (404, "model_not_found")
    assert (message.status_code, message.json()["error"]["type"]) == (404, "not_found_error")
    for error in (chat.json()["error"], message.json()["error"]):
        assert "Available models: tiny" in error["message"]


async def test_a_wrong_field_is_400_and_named(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        chat = await server.client.post(CHAT, json={**CHAT_BODY, "temperature": "hot"})
        message = await server.client.post(
            MESSAGES, json={**MESSAGES_BODY, "messages": [{"role": "user", "content": 7}]}
        )
    assert chat.status_code == message.status_code == 400
    assert chat.json()["error"]["param"] == "temperature"
    assert "messages.0.content" in message.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_400(tmp_path: Path, body: bytes):
    async with serving(tmp_path, "Hi.") as server:
        for path in (CHAT, MESSAGES):
            response = await server.client.post(path, content=body, headers={"content-type": "application/json"})
            assert response.status_code == 400
            assert response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/api/tags", "/props", "/v1/nothing", "/version", "/anthropic/v1/messages/x"])
async def test_unknown_paths_are_json_404(tmp_path: Path, path: str):
    async with serving(tmp_path, "Hi.") as server:
        response = await server.client.get(path)
    assert response.status_code == 404
    assert path in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/v1/messages", "/anthropic/v1/messages", "/v1/messages?beta=true"])
async def test_every_spelling_of_the_messages_path_works_and_errs_alike(tmp_path: Path, path: str):
    async with serving(tmp_path, "Hi.") as server:
        assert (await server.client.post(path, json=MESSAGES_BODY)).status_code == 200
        unknown = await server.client.post(path, json={**MESSAGES_BODY, "model": "other"})
    assert unknown.json()["type"] == "error"
    assert unknown.json()["request_id"] == unknown.headers["request-id"]


async def test_the_models_are_listed_with_their_window(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        listed = (await server.client.get("/v1/models")).json()["data"]
        one = (await server.client.get(f"/v1/models/{MODEL}")).json()
        missing = await server.client.get("/v1/models/org/name")
    assert [(model["id"], model["max_model_len"]) for model in listed] == [(MODEL, 4096)]
    assert one == listed[0]
    assert "'org/name' not found" in missing.json()["error"]["message"]


async def test_a_model_whose_name_has_a_slash_is_found_and_answers(tmp_path: Path):
    build_text_model(tmp_path / "models" / "org" / "name")
    body = {"model": "org/name", "messages": [{"role": "user", "content": "x"}]}
    async with serving(tmp_path, "Hi.") as server:
        found = [(await server.client.get(f"/v1/models/{name}")).json() for name in ("org/name", "org%2Fname")]
        answer = (await server.client.post("/v1/chat/completions", json=body)).raise_for_status().json()
    assert [model["id"] for model in found] == ["org/name", "org/name"]
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("org/name", "Hi.")


async def test_a_model_says_what_it_can_do(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        plain = (await server.client.get("/v1/models")).json()["data"][0]["omlx"]
    assert (plain["reasoning"], plain["vision"], plain["max_output_tokens"]) == (False, False, 4096)


async def test_a_model_whose_template_marks_thinking_reasons(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        (tmp_path / "models" / MODEL / "chat_template.jinja").write_text("<think>{{ messages }}")
        model = (await server.client.get(f"/v1/models/{MODEL}")).json()["omlx"]
    assert model["reasoning"] is True


async def test_a_key_is_asked_for_where_one_is_set(tmp_path: Path):
    async with serving(tmp_path, "Hi.", api_key="secret") as server:
        refused = await server.client.post(MESSAGES, json=MESSAGES_BODY)
        allowed = await server.client.post(MESSAGES, json=MESSAGES_BODY, headers={"x-api-key": "secret"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    assert allowed.status_code == 200


async def test_a_foreign_host_is_refused_in_the_dialects_shape(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        response = await server.client.post(MESSAGES, json=MESSAGES_BODY, headers={"host": "evil.example"})
    assert (response.status_code, response.json()["type"]) == (403, "error")


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
async def test_a_client_that_leaves_a_stream_stops_the_work(tmp_path: Path, path: str, body: dict):
    async with serving(tmp_path, "x" * 4000, step_seconds=SLOW) as server:
        async with server.client.stream("POST", path, json={**body, "stream": True}) as response:
            await anext(response.aiter_text())
            assert num_running(server) == 1
        await until(lambda: num_running(server) == 0)


async def test_a_client_that_leaves_while_it_waits_stops_the_work(tmp_path: Path):
    async with serving(tmp_path, "x" * 4000, step_seconds=SLOW) as server:
        waiting = asyncio.create_task(server.client.post(CHAT, json=CHAT_BODY))
        await until(lambda: MODEL in server.pool.engines and num_running(server) == 1)
        waiting.cancel()
        await until(lambda: num_running(server) == 0)


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
async def test_a_slow_step_is_bridged_by_heartbeats(tmp_path: Path, path: str, body: dict):
    async with serving(tmp_path, "ab", step_seconds=0.8, heartbeat_seconds=0.05) as server:
        response = await server.client.post(path, json={**body, "stream": True})
    beats = [record for record in records(response.text) if record.get("type") == "ping" or record.get("choices") == []]
    assert len(beats) >= 2
    assert streamed_text(path, response.text) == "ab"


async def test_a_resend_sees_how_far_the_prompt_is_that_it_waits_for(tmp_path: Path):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 3500}], "max_tokens": 1, "stream": True}
    slow = 0.001  # seconds a token
    async with serving(tmp_path, "ab", heartbeat_seconds=0.1, prefill_seconds_per_token=slow) as server:
        first, again = await asyncio.gather(*(server.client.post("/v1/messages", json=body) for _ in range(2)))
    for response in (first, again):
        pings = [record for record in records(response.text) if record.get("type") == "ping"]
        told = [ping["prefill"]["num_computed_tokens"] for ping in pings if "prefill" in ping]
        assert len(set(told)) >= 3
        assert told == sorted(told)


async def _kill_engine(server: Serving) -> None:
    os.kill(server.pool.engines[MODEL].pid, signal.SIGKILL)


async def _stop_server(server: Serving) -> None:
    server.http.should_exit = True


@pytest.mark.parametrize("end", [_kill_engine, _stop_server])
@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
async def test_a_stream_that_cannot_go_on_ends_with_the_protocols_error(
    tmp_path: Path, path: str, body: dict, end: Callable
):
    async with (
        serving(tmp_path, "x" * 4000, step_seconds=0.005) as server,
        server.client.stream("POST", path, json={**body, "stream": True}) as response,
    ):
        pieces: AsyncIterator[str] = response.aiter_text()
        received = await anext(pieces)
        await end(server)
        async for piece in pieces:
            received += piece
    assert records(received)[-1]["error"]["message"]


async def test_an_engine_that_does_not_start_is_a_503_with_its_reason(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        (tmp_path / "script.json").write_text("not json")
        response = await server.client.post(CHAT, json=CHAT_BODY)
    assert response.status_code == 503
    assert "engine" in response.json()["error"]["message"]


async def test_a_full_queue_is_503_with_when_to_come_back(tmp_path: Path):
    async with serving(tmp_path, "x" * 4000, step_seconds=0.01, max_num_seqs=1, max_num_waiting=1) as server:
        taken: list[asyncio.Task[httpx.Response]] = []
        for count in (1, 2):
            taken.append(asyncio.create_task(server.client.post(CHAT, json=CHAT_BODY)))
            await until(lambda count=count: MODEL in server.pool.engines and num_running(server) == count)
        refused = await server.client.post(MESSAGES, json=MESSAGES_BODY)
        for task in taken:
            task.cancel()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["type"] == "overloaded_error"


async def test_thinking_that_a_client_drops_is_put_back(tmp_path: Path):
    async with serving(tmp_path, "<think>\nLet me see, for quite a while.\n</think>\n\nHi.", "Fine.") as server:
        template = tmp_path / "models" / MODEL / "chat_template.jinja"
        thinking = "{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
        template.write_text(template.read_text().replace("{{ message.content }}", thinking + "{{ message.content }}"))
        first = (await server.client.post(CHAT, json=CHAT_BODY)).json()
        turns = [*USER, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "how are you?"}]
        second = (await server.client.post(CHAT, json={**CHAT_BODY, "messages": turns})).json()["usage"]
        other = [{"role": "user", "content": "hallo"}, *turns[1:]]
        third = (await server.client.post(CHAT, json={**CHAT_BODY, "messages": other})).json()["usage"]
    assert "quite a while" in first["choices"][0]["message"]["reasoning_content"]
    assert second["prompt_tokens"] > third["prompt_tokens"] + len("Let me see, for quite a while.")
