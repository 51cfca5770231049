"""An engine that loads its model: one that is stuck is ended with the reason, one that is slow is waited for."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from omlx.server.engine.process import EngineCommand

from ..waiting import until
from .serving import MODEL, serving
from .test_server import CHAT, CHAT_BODY

_STALL_SECONDS = 2.0
_LONG_STALL_SECONDS = 16.0
"""Longer than a process needs to begin; it is heard of every eighth of that."""
_SAYS_NOTHING = EngineCommand([sys.executable, "-c", "import time; time.sleep(3600)"], {})


@pytest.mark.parametrize("command", [None, _SAYS_NOTHING], ids=["while it loads", "before it begins"])
async def test_an_engine_that_is_stuck_is_ended_and_its_clients_hear_why(tmp_path: Path, command: EngineCommand | None):
    engine_command = None if command is None else lambda _: command
    async with serving(
        tmp_path, "Hi.", stall_seconds=_STALL_SECONDS, load="stuck", engine_command=engine_command
    ) as server:
        refused = await server.client.post(CHAT, json=CHAT_BODY)
        health = (await server.client.get("/health")).json()
    assert refused.status_code == 503
    assert "the engine got no further with loading for " in refused.json()["error"]["message"]
    assert health["failed"] == [MODEL]
    assert "got no further" in health["reasons"][MODEL]


async def test_an_engine_that_loads_slowly_is_heard_of_and_waited_for(tmp_path: Path):
    async with serving(tmp_path, "Hi.", stall_seconds=_LONG_STALL_SECONDS, load="slow") as server:
        asked = asyncio.create_task(server.client.post(CHAT, json=CHAT_BODY))
        await until(lambda: MODEL in server.pool.engines)
        engine = server.pool.engines[MODEL]
        for _ in range(3):  # when it is attached, when the load begins, and once more
            before = engine._went_on_at
            await until(lambda before=before: engine._went_on_at > before)
        assert engine.is_loading
        answer = await asked
    assert answer.json()["choices"][0]["message"]["content"] == "Hi."
