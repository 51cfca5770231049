"""The routes beside the two that chats go over: bare completions, kept responses, lists of models, metrics."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import tokenizers

from ..text_model import build_text_model
from .serving import MODEL, serving
from .test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY, USER


async def test_a_wrong_method_is_a_json_error(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        response = await server.client.get(MESSAGES)
    assert response.status_code == 404
    assert response.json()["type"] == "error"


async def test_a_bare_prompt_is_continued_without_a_template(tmp_path: Path):
    async with serving(tmp_path, " upon a time") as server:
        answer = (await server.client.post("/v1/completions", json={"model": MODEL, "prompt": "Once"})).json()
        tokens = (await server.client.post("/v1/completions", json={"model": MODEL, "prompt": [1, 2, 3]})).json()
        empty = await server.client.post("/v1/completions", json={"model": MODEL, "prompt": ""})
    assert answer["choices"][0]["text"] == " upon a time"
    assert answer["usage"]["prompt_tokens"] == len("Once")
    assert tokens["usage"]["prompt_tokens"] == 3
    assert (empty.status_code, empty.json()["error"]["param"]) == (400, "prompt")


@pytest.mark.parametrize(
    ("template", "reason"),
    [(None, "no chat template"), ("{% for %}", "does not compile"), ("{{ ''.__class__.x }}", "may not do")],
)
async def test_a_model_without_a_sound_template_continues_bare_prompts_and_says_why_it_cannot_chat(
    tmp_path: Path, template: str | None, reason: str
):
    def build(folder: Path, window: int) -> tokenizers.Tokenizer:
        tokenizer = build_text_model(folder, window)
        (folder / "chat_template.jinja").unlink()
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        return tokenizer

    async with serving(tmp_path, " upon a time", build=build) as server:
        answer = (await server.client.post("/v1/completions", json={"model": MODEL, "prompt": "Once"})).json()
        chat = await server.client.post(CHAT, json=CHAT_BODY)
        message = await server.client.post(MESSAGES, json={**MESSAGES_BODY, "stream": True})
        count = await server.client.post(f"{MESSAGES}/count_tokens", json={"model": MODEL, "messages": USER})
        responses = await server.client.post("/v1/responses", json={"model": MODEL, "input": "hi"})
    assert answer["choices"][0]["text"] == " upon a time"
    for refused in (chat, message, count, responses):
        assert refused.status_code == 400
        assert reason in refused.json()["error"]["message"]
    assert chat.json()["error"]["param"] == responses.json()["error"]["param"] == "model"
    assert message.json()["type"] == count.json()["type"] == "error"


async def test_a_response_can_be_continued_fetched_and_deleted(tmp_path: Path):
    async with serving(tmp_path, "Hi.", "Fine.") as server:
        first = (await server.client.post("/v1/responses", json={"model": MODEL, "input": "hello"})).json()
        again = {"model": MODEL, "input": "and you?", "previous_response_id": first["id"]}
        second = (await server.client.post("/v1/responses", json=again)).json()
        fetched = (await server.client.get(f"/v1/responses/{first['id']}")).json()
        deleted = (await server.client.delete(f"/v1/responses/{first['id']}")).json()
        missing = await server.client.get(f"/v1/responses/{first['id']}")
    assert first["output"][0]["content"][0]["text"] == "Hi."
    assert second["usage"]["input_tokens_details"]["cached_tokens"] >= first["usage"]["input_tokens"]
    assert fetched == first
    assert deleted["deleted"] is True
    assert missing.status_code == 404


async def test_a_web_socket_on_responses_is_answered_426(tmp_path: Path):
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    async with serving(tmp_path, "Hi.") as server:
        assert (await server.client.get("/v1/responses", headers=upgrade)).status_code == 426


async def test_the_model_list_comes_in_the_shape_the_client_reads(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        anthropic = (await server.client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})).json()
        codex = (await server.client.get("/v1/models?client_version=0.169.0")).json()
        wrong = await server.client.get("/v1/models?limit=x", headers={"anthropic-version": "2023-06-01"})
    assert (anthropic["data"][0]["type"], anthropic["has_more"]) == ("model", False)
    assert (codex["models"][0]["slug"], codex["models"][0]["context_window"]) == (MODEL, 4096)
    assert wrong.status_code == 400
    assert wrong.json()["type"] == "error"
    assert wrong.json()["error"]["message"].startswith("limit: ")


ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def test_errors_of_the_list_have_the_shape_of_who_asks(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        for path, status in (("/v1/models/nope", 404), ("/v1/models?limit=0", 400), ("/v1/models?limit=abc", 400)):
            told = await server.client.get(path, headers=ANTHROPIC)
            assert (told.status_code, told.json()["type"]) == (status, "error")
        assert (await server.client.get("/v1/models/nope")).json()["error"]["code"] == "model_not_found"
        assert (await server.client.get("/v1/models?limit=abc")).json()["error"]["param"] == "limit"
        assert (await server.client.head("/v1/models")).status_code == 200
        assert (await server.client.head(f"/v1/models/{MODEL}")).status_code == 200
        assert (await server.client.head("/v1/models/nope")).status_code == 404


async def test_every_answer_has_an_id_of_its_own(tmp_path: Path):
    seen: list[str] = []
    count = {"model": MODEL, "messages": USER}
    async with serving(tmp_path, "Hi.") as server:
        made = await server.client.post("/v1/responses", json={"model": MODEL, "input": "x"})
        stored = f"/v1/responses/{made.json()['id']}"
        answers = [
            made,
            await server.client.get(stored),
            await server.client.delete(stored),
            await server.client.delete(stored),
            await server.client.post(f"{MESSAGES}/count_tokens", json=count),
            await server.client.post(MESSAGES, json={**MESSAGES_BODY, "stream": True}),
            *[
                await server.client.get(path)
                for path in ("/v1/models", "/v1/models/x", "/v1/responses", "/health", "/no")
            ],
            await server.client.post(CHAT, content=b"x"),
        ]
    for answer in answers:
        assert answer.headers.get_list("request-id") == answer.headers.get_list("x-request-id")
        (request_id,) = answer.headers.get_list("request-id")
        seen.append(request_id)
    assert len(set(seen)) == len(seen)
    assert answers[3].status_code == 404


async def test_what_is_wrong_with_the_prompt_has_the_name_of_each_protocols_field(tmp_path: Path):
    long = "word " * 2000
    asked = {
        CHAT: ({**CHAT_BODY, "messages": [{"role": "user", "content": long}]}, "messages"),
        "/v1/responses": ({"model": MODEL, "input": long}, "input"),
        "/v1/completions": ({"model": MODEL, "prompt": long}, "prompt"),
    }
    async with serving(tmp_path, "Hi.") as server:
        for path, (body, param) in asked.items():
            for stream in (False, True):
                error = (await server.client.post(path, json={**body, "stream": stream})).json()["error"]
                assert (error["code"], error["param"]) == ("context_length_exceeded", param)
        unknown = await server.client.post("/v1/completions", json={"model": MODEL, "prompt": [1, 60_000]})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "prompt")


async def test_a_stored_response_is_not_there_for_another_key(tmp_path: Path):
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("mine", "others")]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": keys}))
    mine, others = ({"authorization": f"Bearer {name}"} for name in ("mine", "others"))
    async with serving(tmp_path, "Hi.") as server:
        made = await server.client.post("/v1/responses", json={"model": MODEL, "input": "x"}, headers=mine)
        stored = f"/v1/responses/{made.json()['id']}"
        assert (await server.client.get(stored, headers=others)).status_code == 404
        assert (await server.client.delete(stored, headers=others)).status_code == 404
        assert (await server.client.get(stored, headers=mine)).status_code == 200


async def test_metrics_count_what_was_served(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        await server.client.post(CHAT, json=CHAT_BODY)
        await server.client.post(CHAT, json=CHAT_BODY)
        lines = (await server.client.get("/metrics")).text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert figures['omlx:generation_tokens_total{model_name="tiny"}'] == "6.0"
    assert figures['omlx:request_success_total{finished_reason="stop",model_name="tiny"}'] == "2.0"
    assert figures['omlx:time_to_first_token_seconds_count{model_name="tiny"}'] == "2.0"
    assert float(figures['omlx:prefix_cache_hits_total{model_name="tiny"}']) > 0
    assert figures['omlx:num_requests_running{model_name="tiny"}'] == "0.0"
