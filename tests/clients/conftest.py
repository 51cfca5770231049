"""The server of the client matrix, and where the clients live."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from omlx.server.state_file import ServerState

from .drivers.driving import Server

ROOT = Path(__file__).parents[2]
_START_SECONDS = 60
_KEY = "matrix-key"


@pytest.fixture(scope="session")
def matrix_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`tests.clients.server` in a process of its own, for all clients together."""
    with _running(tmp_path_factory.mktemp("matrix"), "--with-busy") as server:
        yield server


@pytest.fixture
def plain_server(tmp_path: Path) -> Iterator[Server]:
    """The same without a model whose queue is always full."""
    with _running(tmp_path) as server:
        yield server


@pytest.fixture
def computing_server(tmp_path: Path) -> Iterator[Server]:
    """The same with an engine that computes."""
    with _running(tmp_path, "--computes") as server:
        yield server


@contextmanager
def _running(home: Path, *options: str) -> Iterator[Server]:
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


@pytest.fixture(scope="session")
def clients() -> Path:
    """The environment of the clients that are not the project's own; its programs stand in it."""
    folder = ROOT / ".cache" / "clients" / "bin"
    if not folder.is_dir():
        pytest.skip("the other clients are not installed (make clients installs them)")
    return folder


def _url(home: Path, process: subprocess.Popen[bytes]) -> str:
    state_file = home / "run" / "server.json"
    deadline = time.monotonic() + _START_SECONDS
    while not state_file.is_file():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start:\n{(home / 'server.log').read_text()}")
        time.sleep(0.02)
    return msgspec.json.decode(state_file.read_bytes(), type=ServerState).url
