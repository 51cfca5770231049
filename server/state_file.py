"""Tells the launcher how to reach this server, for as long as it runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec


class ServerState(msgspec.Struct, frozen=True):
    """`url` is reachable from this machine, whatever address the server listens on."""

    pid: int
    host: str
    port: int
    url: str
    instance_id: str


def reachable_url(host: str, port: int) -> str:
    """The base URL by which this machine reaches a server bound to `host`."""
    if host in ("0.0.0.0", ""):
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def published(path: Path, state: ServerState) -> Iterator[None]:
    """Write `path` for the time of the block; at the end it is removed if it is still ours."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(state))
    temporary.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            if msgspec.json.decode(path.read_bytes(), type=ServerState) == state:
                path.unlink()
