"""The server of the client matrix in a process of its own, and where the clients live."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from omlx.server.state_file import ServerState

from .drivers.driving import Server

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".cache" / "clients" / "bin"
"""The programs of the environment of the clients that are not the project's own."""
_START_SECONDS = 60
_KEY = "matrix-key"


@contextmanager
def running(home: Path, *options: str) -> Iterator[Server]:
    """`tests.clients.server` with these options."""
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.clients.server", str(home), *options],
            cwd=ROOT,
            env={**os.environ, "OMLX_API_KEY": _KEY},
            stdout=log,
            stderr=log,
        )
    try:
        yield Server(_url(home, process), _KEY)
    finally:
        process.terminate()
        process.wait(30)


def _url(home: Path, process: subprocess.Popen[bytes]) -> str:
    state_file = home / "run" / "server.json"
    deadline = time.monotonic() + _START_SECONDS
    while not state_file.is_file():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start:\n{(home / 'server.log').read_text()}")
        time.sleep(0.02)
    return msgspec.json.decode(state_file.read_bytes(), type=ServerState).url
