"""An engine process as the server holds it: signals that reach the whole group, and what is sent to one that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop

from omlx.server.engine.process import EngineCommand, EngineProcess
from omlx.server.errors import ShuttingDown

from ..waiting import until
from .tiny_model import prompt_of, submit

_LATE = """
import pathlib, sys, time
gate, done = map(pathlib.Path, sys.argv[1:3])
while not gate.exists():
    time.sleep(0.01)
from omlx.server.engine.worker import set_signals
set_signals()
done.touch()
time.sleep(600)
"""


async def test_an_engine_that_is_still_importing_survives_ctrl_c_and_sigterm(tmp_path: Path):
    gate, done = tmp_path / "gate", tmp_path / "done"
    engine = EngineProcess.start(EngineCommand([sys.executable, "-c", _LATE, str(gate), str(done)], os.environ))
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(engine.pid, number)
    gate.touch()
    await until(done.exists)
    await engine.stop()


def test_requests_are_ended_whose_engine_has_just_gone():
    async def end_requests() -> None:
        engine = EngineProcess.start(EngineCommand([sys.executable, "-c", "import time; time.sleep(600)"], os.environ))
        await engine.attach()
        engine.submit(submit("a", prompt_of(4)))
        assert engine._transport is not None
        engine._transport.abort()
        await until(lambda: engine._ended_at > 0)
        engine.fail_requests(ShuttingDown("the server is shutting down"))
        await engine.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the server has it
        runner.run(end_requests())
