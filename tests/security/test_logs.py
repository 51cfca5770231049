"""What the log may hold: who asked, never what, never with which key, and one line for each thing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from ..api.serving import serving
from ..api.test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY

KEY, SECRET = "sk-the-key-itself", "the-words-of-the-prompt"
NASTY = "evil\x1b[31m\x7f"


async def test_no_prompt_answer_or_key_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, logger="omlx")
    said = [{"role": "user", "content": SECRET}]
    async with serving(tmp_path, "the-words-of-the-answer", api_key=KEY) as server:
        for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"x-api-key": f"{KEY}-wrong"}):
            for stream in (False, True):
                await server.client.post(CHAT, json={**CHAT_BODY, "messages": said, "stream": stream}, headers=headers)
                await server.client.post(MESSAGES, json={**MESSAGES_BODY, "messages": said}, headers=headers)
        for body in ({"messages": SECRET}, {"messages": said, "model": SECRET}, {"messages": said, "tools": SECRET}):
            await server.client.post(CHAT, json={**CHAT_BODY, **body}, headers={"x-api-key": KEY})
        engine = server.pool.engines["tiny"]
        waiting = asyncio.create_task(
            server.client.post(CHAT, json={**CHAT_BODY, "messages": said}, headers={"x-api-key": KEY})
        )
        engine.kill("a crash")
        await waiting
    assert "request" in caplog.text
    for words in (KEY, SECRET, "the-words-of-the-answer"):
        assert words not in caplog.text


async def test_what_a_client_writes_cannot_forge_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG, logger="omlx")
    async with serving(tmp_path, "Hi.") as server:
        await server.client.post(CHAT, json=CHAT_BODY, headers=[(b"user-agent", NASTY.encode("latin-1"))])
        await server.client.post(CHAT, json={**CHAT_BODY, "model": "a\nINFO forged \x1b[2J"})
        await server.client.post(CHAT, json={**CHAT_BODY, "a\r\nforged": 1, "user": "x\nforged"})
        await server.client.get("/v1/models/a%0aforged%1b")
        await server.client.post("/v1/a%0d%0aforged", json={})
        monkeypatch.setattr("omlx.server.models.pool.ModelPool.entry", lambda *_: 1 / 0)
        assert (await server.client.get("/v1/models/a%0aforged%1b")).status_code == 500
    for record in caplog.records:
        if record.name.startswith("omlx"):
            assert not [mark for mark in record.getMessage() if not mark.isprintable()], record.getMessage()
