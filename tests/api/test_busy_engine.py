"""What a newcomer gets while the engine is at a piece of work that does not end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from omlx.server.api import answers

from .serving import MODEL, Serving, serving
from .test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY, USER, records

RESPONSES = "/v1/responses"
NEWCOMERS = [
    (CHAT, CHAT_BODY, '"role":"assistant"', '"error":{'),
    (CHAT, {**CHAT_BODY, "n": 2}, '"role":"assistant"', '"error":{'),
    (MESSAGES, MESSAGES_BODY, '"message_start"', '"api_error"'),
    (RESPONSES, {"model": MODEL, "input": USER}, '"response.created"', '"response.failed"'),
]


@asynccontextmanager
async def busy_server(folder: Path) -> AsyncIterator[Serving]:
    """Its engine decodes for the first request, and does not come back from it."""
    async with (
        serving(folder, "x" * 4000, step_seconds=3600.0, heartbeat_seconds=0.05) as server,
        server.client.stream("POST", CHAT, json={**CHAT_BODY, "stream": True}) as first,
    ):
        await anext(first.aiter_text())
        yield server


@pytest.mark.parametrize(("path", "body", "beginning", "error"), NEWCOMERS)
async def test_a_newcomers_stream_begins_and_what_goes_wrong_later_stands_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, body: dict, beginning: str, error: str
):
    monkeypatch.setattr(answers, "PATIENCE_SECONDS", 0.05)
    async with (
        busy_server(tmp_path) as server,
        server.client.stream("POST", path, json={**body, "stream": True}) as newcomer,
    ):
        assert newcomer.status_code == 200
        pieces = newcomer.aiter_text()
        received = await anext(pieces)
        assert beginning in received
        received += await anext(pieces)  # a heartbeat
        os.kill(server.pool.engines[MODEL].pid, signal.SIGKILL)
        async for piece in pieces:
            received += piece
    assert error in received
    assert len(records(received)) >= 3


async def test_who_wants_a_whole_answer_is_promised_nothing_before_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(answers, "PATIENCE_SECONDS", 0.0)
    async with busy_server(tmp_path) as server:
        engine = server.pool.engines[MODEL]
        submit, is_submitted = engine.submit, asyncio.Event()
        monkeypatch.setattr(engine, "submit", lambda request: (is_submitted.set(), submit(request))[1])
        whole = asyncio.create_task(server.client.post(MESSAGES, json=MESSAGES_BODY))
        await is_submitted.wait()
        await asyncio.sleep(0.2)
        assert not whole.done()
        os.kill(engine.pid, signal.SIGKILL)
        response = await whole
    assert (response.status_code, response.json()["type"]) == (500, "error")


async def test_a_stream_that_began_before_its_admission_counts_its_tokens_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(answers, "PATIENCE_SECONDS", 0.0)
    async with serving(tmp_path, "Hi.") as server:
        response = await server.client.post(MESSAGES, json={**MESSAGES_BODY, "stream": True})
        again = await server.client.post(MESSAGES, json={**MESSAGES_BODY, "stream": True})
    assert records(response.text)[-2]["usage"]["output_tokens"] == len("Hi.")
    assert records(again.text)[-2]["usage"]["cache_read_input_tokens"] > 0
