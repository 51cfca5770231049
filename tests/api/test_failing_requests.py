"""A request that the engine fails at ends with its protocol's error, is not sent again, and harms no other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from ..waiting import until
from .serving import MODEL, serving
from .test_engine_crash import DIALECTS, last_record
from .test_server import CHAT, CHAT_BODY, num_running, streamed_text

SECRET = "the-words-of-the-prompt"
POISONED = f"{SECRET}~"


def poisoned(body: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name in ("messages", "input", "prompt") if name in body)
    text = [{"role": "user", "content": POISONED}] if name == "messages" else POISONED
    return {**body, name: text}


async def test_five_such_requests_stop_nothing_and_the_stream_beside_them_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    long = "x" * 200
    async with serving(tmp_path, long, "Hi.", step_seconds=0.005, poison="~") as server:
        talking = asyncio.create_task(server.client.post(CHAT, json={**CHAT_BODY, "stream": True}))
        await until(lambda: MODEL in server.pool.engines and num_running(server) == 1)
        pid = server.pool.engines[MODEL].pid
        for path, body in [*DIALECTS, DIALECTS[0]]:
            answer = await server.client.post(path, json=poisoned(body))
            assert answer.status_code == 500
            assert answer.headers["x-should-retry"] == "false"
            assert "ValueError: a poison" in answer.json()["error"]["message"]
        assert streamed_text(CHAT, (await talking).text) == long
        assert (await server.client.post(CHAT, json=CHAT_BODY)).status_code == 200
        assert server.pool.engines[MODEL].pid == pid
        assert (await server.client.get("/health")).json()["status"] == "ok"
        await until(lambda: caplog.text.count("Traceback") >= 5)
    assert caplog.text.count("Traceback") == 5
    assert SECRET not in caplog.text


@pytest.mark.parametrize(("path", "body"), DIALECTS)
async def test_every_dialects_stream_ends_with_its_error(tmp_path: Path, path: str, body: dict[str, Any]):
    async with serving(tmp_path, "Hi.", poison="~") as server:
        received = (await server.client.post(path, json={**poisoned(body), "stream": True})).text
    error = last_record(received)
    assert "ValueError: a poison" in (error.get("response") or error)["error"]["message"]


async def test_the_sdks_send_it_once(tmp_path: Path):
    sent: list[str] = []

    async def count(request: httpx2.Request) -> None:
        sent.append(request.url.path)

    async with (
        serving(tmp_path, "Hi.", poison="~") as server,
        httpx2.AsyncClient(event_hooks={"request": [count]}) as client,
    ):
        url = str(server.client.base_url)
        with pytest.raises(openai.InternalServerError) as caught:
            await openai.AsyncOpenAI(
                api_key="x", base_url=f"{url}/v1", http_client=client, max_retries=2
            ).chat.completions.create(model=MODEL, messages=[{"role": "user", "content": POISONED}])
        assert caught.value.code == "request_failed"
        with pytest.raises(anthropic.InternalServerError):
            await anthropic.AsyncAnthropic(
                api_key="x", base_url=url, http_client=client, max_retries=2
            ).messages.create(model=MODEL, max_tokens=5, messages=[{"role": "user", "content": POISONED}])
    assert sent == ["/v1/chat/completions", "/v1/messages"]
