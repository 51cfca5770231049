"""The routes beside the two that chats go over: bare completions, kept responses, lists of models, metrics."""

from __future__ import annotations

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
    assert wrong.json()["error"]


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
