"""A streamed token goes from the engine's message to its client's socket in one piece of work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from omlx.server.dialects.openai_chat_stream import ChatEncoder
from omlx.server.engine.generation import Generation, Sink
from omlx.server.events import Delta, Event, PrefillProgress, TextDelta

from ..waiting import until
from .serving import serving
from .test_server import CHAT, CHAT_BODY, num_running, records, streamed_text

ANSWER = "word " * 40
"""A token a character."""
STREAM = {**CHAT_BODY, "stream": True}


async def test_no_task_is_woken_for_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wakings: list[int] = []
    next_events = Generation.next

    async def counted(self: Generation, sink: Sink | None = None) -> list[Event]:
        events = await next_events(self, sink)
        wakings.append(len(events))
        return events

    monkeypatch.setattr(Generation, "next", counted)
    async with serving(tmp_path, ANSWER, step_seconds=0.003) as server:
        answer = await server.client.post(CHAT, json=STREAM)
    assert streamed_text(CHAT, answer.text) == ANSWER
    assert len(wakings) < len(ANSWER) / 4, "the beginning and the end are all that is waited for"


async def test_what_goes_wrong_in_one_stream_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    feed = ChatEncoder.feed

    def failing(self: ChatEncoder, event: Delta | PrefillProgress) -> bytes:
        if isinstance(event, TextDelta) and "!" in event.text:
            raise ZeroDivisionError
        return feed(self, event)

    monkeypatch.setattr(ChatEncoder, "feed", failing)
    async with serving(tmp_path, "one! " * 20, ANSWER, step_seconds=0.002) as server:
        answers = await asyncio.gather(*(server.client.post(CHAT, json=STREAM) for _ in range(2)))
        await until(lambda: num_running(server) == 0)
    whole, failed = sorted((answer.text for answer in answers), key=lambda text: '"error"' in text)
    assert streamed_text(CHAT, whole) == ANSWER
    *pieces, error = records(failed)
    assert "one".startswith("".join(record["choices"][0]["delta"]["content"] for record in pieces))
    assert error["error"]["message"] == "internal error; the server's log has the details"
