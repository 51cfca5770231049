"""The framing of the socket to an engine: frames come whole, however the stream is cut."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import uvloop

from omlx.server.engine.messages import Alive, Cancel, EngineFailed, EngineReady
from omlx.server.engine.process import EngineCommand, EngineProcess
from omlx.server.engine.wire import FrameProtocol, frame
from omlx.server.errors import EngineUnavailable

from ..waiting import wait_until

STREAM = frame(Alive()) + frame(EngineFailed("x" * 300)) + frame(Cancel("")) + frame(Cancel("a"))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, len(STREAM)])
async def test_frames_are_whole_however_the_stream_is_cut(size: int):
    payloads: list[bytes] = []
    protocol = FrameProtocol(lambda payload, _: payloads.append(bytes(payload)))
    protocol.connection_made(asyncio.Transport())
    for start in range(0, len(STREAM), size):
        protocol.data_received(STREAM[start : start + size])
    assert b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads) == STREAM
    assert len(payloads) == 4
    protocol.connection_lost(None)
    assert protocol.closed.done()


def test_what_an_engine_said_before_anybody_listened_is_heard(tmp_path: Path):
    said, ready = tmp_path / "said", frame(EngineReady("cpu", 7, 0.5))
    speak = f"import os, sys, time; os.write(int(sys.argv[-1]), {ready!r}); open({str(said)!r}, 'w'); time.sleep(3600)"

    async def listen() -> EngineReady:
        process = EngineProcess.start(EngineCommand([sys.executable, "-c", speak], {}))
        wait_until(said.exists, 60)
        await process.attach()
        try:
            return await process.ready()
        finally:
            await process.stop()

    for run in (uvloop.run, asyncio.run):
        assert run(listen()) == EngineReady("cpu", 7, 0.5)
        said.unlink()


async def test_an_engine_whose_words_cannot_be_read_is_ended_with_the_reason():
    speak = "import os, sys, time; os.write(int(sys.argv[-1]), b'\\x01\\0\\0\\0\\xc1'); time.sleep(3600)"
    process = EngineProcess.start(EngineCommand([sys.executable, "-c", speak], {}))
    await process.attach()
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        await process.ready()
    assert "cannot be read" in await process.ended()
    await process.stop()
