"""The framing of the socket to an engine: frames come whole, however the stream is cut."""

from __future__ import annotations

import sys

import pytest

from omlx.server.engine.messages import Alive, Cancel, EngineFailed
from omlx.server.engine.process import EngineCommand, EngineProcess
from omlx.server.engine.wire import FrameProtocol, frame
from omlx.server.errors import EngineUnavailable

STREAM = frame(Alive()) + frame(EngineFailed("x" * 300)) + frame(Cancel("")) + frame(Cancel("a"))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, len(STREAM)])
async def test_frames_are_whole_however_the_stream_is_cut(size: int):
    payloads: list[bytes] = []
    protocol = FrameProtocol(lambda payload: payloads.append(bytes(payload)))
    for start in range(0, len(STREAM), size):
        protocol.data_received(STREAM[start : start + size])
    assert b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads) == STREAM
    assert len(payloads) == 4
    protocol.connection_lost(None)
    assert protocol.closed.done()


async def test_an_engine_whose_words_cannot_be_read_is_ended_with_the_reason():
    speak = "import os, sys, time; os.write(int(sys.argv[-1]), b'\\x01\\0\\0\\0\\xc1'); time.sleep(3600)"
    process = EngineProcess.start(EngineCommand([sys.executable, "-c", speak], {}))
    await process.attach()
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        await process.ready()
    assert "cannot be read" in await process.ended()
