"""A request leaves nothing behind in the server, however it ends: not an object for each."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from omlx.server.api.admin import history
from omlx.server.engine import ledger

from ..waiting import until
from .serving import MODEL, Serving, serving

USER = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": USER},
    "/v1/messages": {"messages": USER, "max_tokens": 1000},
    "/v1/responses": {"input": "hello", "store": False},
    "/v1/completions": {"prompt": "hello", "max_tokens": 1000},
}
ROUND = 20


async def whole(server: Serving, path: str, stream: bool) -> None:
    body = {**BODIES[path], "model": MODEL, "stream": stream}
    (await server.client.post(path, json=body)).raise_for_status()


async def cut(server: Serving, path: str, stream: bool) -> None:
    """The client leaves as soon as its row is there."""
    body = {**BODIES[path], "model": MODEL, "stream": stream, "user": "x"}
    asking = asyncio.create_task(server.client.post(path, json=body))
    await until(lambda: asking.done() or bool(server.pool.engines[MODEL]._streams))
    asking.cancel()
    await asyncio.wait({asking})
    await until(lambda: not server.pool.engines[MODEL]._streams)


async def refused(server: Serving, path: str, stream: bool) -> None:
    body = {**BODIES[path], "model": MODEL, "stream": stream, "temperature": -1}
    assert (await server.client.post(path, json=body)).status_code == 400


async def counted() -> Counter[type]:
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        loop.call_later(60, print).cancel()  # asyncio keeps cancelled timers until they are many, and what they hold
    await asyncio.sleep(0)
    gc.collect()
    return Counter(map(type, gc.get_objects()))


@pytest.mark.parametrize("ask", [whole, cut, refused])
async def test_the_hundredth_request_finds_as_many_objects_as_the_tenth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Any
):
    monkeypatch.setattr(ledger, "_MAX_ENDED", 3)
    monkeypatch.setattr(history, "_SECONDS", 3600.0)
    answer, step_seconds = ("Hi." * 40, 0.02) if ask is cut else ("Hi.", 0.0)
    async with serving(tmp_path, answer, step_seconds=step_seconds) as server:
        await whole(server, "/v1/completions", stream=False)
        before = await counted()
        for is_first in (True, False):  # which fills what Python keeps of the classes that it has seen
            for path, stream in product(BODIES, (False, True)):
                for _ in range(2 if is_first else ROUND):
                    await ask(server, path, stream)
                after = await counted()
                grown = {kind: count for kind, count in (after - before).items() if count >= ROUND}
                assert is_first or not grown, (path, stream)
                before = after
