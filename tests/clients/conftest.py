"""The server of the client matrix, and where the clients live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .drivers.driving import Server
from .running import CLIENTS, running


@pytest.fixture(scope="session")
def matrix_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`tests.clients.server` in a process of its own, for all clients together."""
    with running(tmp_path_factory.mktemp("matrix"), "--with-busy") as server:
        yield server


@pytest.fixture
def plain_server(tmp_path: Path) -> Iterator[Server]:
    """The same without a model whose queue is always full."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def computing_server(tmp_path: Path) -> Iterator[Server]:
    """The same with an engine that computes."""
    with running(tmp_path, "--computes") as server:
        yield server


@pytest.fixture(scope="session")
def clients() -> Path:
    """The environment of the clients that are not the project's own; its programs stand in it."""
    if not CLIENTS.is_dir():
        pytest.skip("the other clients are not installed (make clients installs them)")
    return CLIENTS
