"""A template that computes on and on, over some content only, is its own model's trouble, while its clients
wait."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from omlx.server.prompts import template_process
from omlx.server.prompts.template_process import _MAX_PROCESSES

from ..prompts.test_template_process import LOOP, where_asked
from ..waiting import until
from .serving import MODEL, serving
from .test_server import CHAT, CHAT_BODY, MESSAGES

NUM_CLIENTS = _MAX_PROCESSES + (os.cpu_count() or 1) + 4
"""More than a model has processes, and an event loop threads."""
COUNT = MESSAGES + "/count_tokens"
STARTS_LOOP = {"model": MODEL, "messages": [{"role": "user", "content": "ZZ"}, *CHAT_BODY["messages"]], "max_tokens": 1}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[template_process._Child]:
    """All processes of templates."""
    children: list[template_process._Child] = []

    class Child(template_process._Child):
        def __init__(self) -> None:
            super().__init__()
            children.append(self)

    monkeypatch.setattr(template_process, "_Child", Child)
    return children


@pytest.mark.parametrize(("path", "asked"), [(CHAT, {}), (MESSAGES, {"stream": True}), (COUNT, {})])
async def test_it_holds_up_no_other_model_and_ends_with_its_clients(
    tmp_path: Path, started: list[template_process._Child], path: str, asked: dict
):
    async with serving(tmp_path, "Hi.", others=["other"]) as server:
        (tmp_path / "models" / MODEL / "chat_template.jinja").write_text(where_asked(LOOP))
        first = await server.client.post(CHAT, json=CHAT_BODY)
        body = {**STARTS_LOOP, **asked}
        stuck = [asyncio.create_task(server.client.post(path, json=body)) for _ in range(NUM_CLIENTS)]
        await until(lambda: len(started) == _MAX_PROCESSES)
        other = await server.client.post(CHAT, json={**CHAT_BODY, "model": "other"})
        for task in stuck:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await until(lambda: not any(child.is_alive for child in started[:_MAX_PROCESSES]))
        again = await server.client.post(CHAT, json=CHAT_BODY)
    assert [response.status_code for response in (first, other, again)] == [200, 200, 200]


async def test_whoever_waits_for_it_at_the_servers_end_is_told_so(
    tmp_path: Path, started: list[template_process._Child]
):
    async with serving(tmp_path, "Hi.") as server:
        (tmp_path / "models" / MODEL / "chat_template.jinja").write_text(where_asked(LOOP))
        asked = asyncio.create_task(server.client.post(MESSAGES, json=STARTS_LOOP))
        await until(lambda: bool(started))
        server.http.handle_exit(signal.SIGTERM, None)
        response = await asked
    assert (response.status_code, response.json()["type"]) == (503, "error")
    assert "shutting down" in response.text
    assert response.headers["request-id"] == response.json()["request_id"]
    await until(lambda: not any(child.is_alive for child in started))
