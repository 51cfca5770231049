"""An engine process's words in the server's log, with its name and their level."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omlx.server.engine.engine_log import relay
from omlx.server.engine.process import EngineCommand, EngineProcess
from omlx.server.errors import EngineUnavailable

from ..api.admin.admin_serving import admin_serving
from ..api.serving import MODEL

CRASHES = """
import logging, os, signal, sys
from omlx.server.engine.engine_log import start_engine_log
start_engine_log()
logging.getLogger("omlx.x").info("loading %s", "it")
logging.getLogger("omlx.x").error("the weights are torn")
os.kill(os.getpid(), signal.SIGSEGV)
"""

FAILS = """
import logging, sys, threading
from omlx.server.engine.engine_log import start_engine_log

def fail():
    raise ValueError("words of a prompt\\nERROR forged \\x1b[2J")

start_engine_log()
try:
    fail()
except ValueError:
    logging.getLogger("omlx.x").exception("%s failed", "a\\nERROR forged \\x1b[2J")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


def relayed(said: bytes, caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    caplog.set_level(logging.DEBUG, logger="omlx")
    relay(io.BytesIO(said), "org/m").join()
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_line_keeps_its_level_and_what_has_none_is_a_warning_at_least(caplog: pytest.LogCaptureFixture):
    said = b"INFO ready\nlibgomp: odd\nERROR it failed\nTraceback (most recent call last):\n\nINFO done\n  x\n"
    assert relayed(said, caplog) == [
        ("INFO", "org/m: ready"),
        ("WARNING", "org/m: libgomp: odd"),
        ("ERROR", "org/m: it failed"),
        ("ERROR", "org/m: Traceback (most recent call last):"),
        ("INFO", "org/m: done"),
        ("WARNING", "org/m:   x"),
    ]


def test_nothing_in_it_steers_a_terminal_or_is_without_end(caplog: pytest.LogCaptureFixture):
    lines = relayed(b"INFO a\x1b[31mb\rc\xff\n" + b"x" * 9000, caplog)
    assert lines[0] == ("INFO", "org/m: a [31mb c\N{REPLACEMENT CHARACTER}")
    assert [len(message) for _, message in lines[1:]] == [4007, 4007, 1007]


def test_what_it_raises_is_told_by_kind_and_place_and_forges_no_line(caplog: pytest.LogCaptureFixture):
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, check=False)
    lines = [line.removeprefix("org/m: ") for _, line in relayed(done.stderr, caplog)]
    assert done.returncode == 1
    assert [line for line in lines if not line.startswith("  ")] == [
        "a ERROR forged  [2J failed",
        "nobody caught an exception",
        "nobody caught an exception",
    ]
    assert lines.count("  ValueError") == 3
    assert "words of a prompt" not in caplog.text
    assert b"\x1b" not in done.stderr


async def test_the_last_words_of_one_that_crashes_are_in_the_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="omlx")
    engine = EngineProcess.start(EngineCommand([sys.executable, "-c", CRASHES], os.environ, "org/m"))
    await engine.attach()
    with pytest.raises(EngineUnavailable, match="SIGSEGV"):
        await engine.ready()
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said[:2] == [("INFO", "org/m: loading it"), ("ERROR", "org/m: the weights are torn")]
    assert ("ERROR", "org/m: Fatal Python error: Segmentation fault") in said


async def test_one_that_is_stuck_says_in_the_log_where_it_stands(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="omlx")
    async with admin_serving(tmp_path) as admin:
        await admin.put(f"loaded/{MODEL}")
        engine = admin.server.pool.engines[MODEL]
        await engine.ready()
        engine.dump()
        async with asyncio.timeout(60):
            while not any(" in serve" in line["message"] for line in await admin.get("logs", level="WARNING")):
                pass
    assert "most recent call first" in caplog.text
