"""Tells the launcher how to reach this server, for as long as it runs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

logger = logging.getLogger(__name__)


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
    """Write `path` for the time of the block; at the end it is removed if it is still ours.

    Where another server that still runs has written it, that one stays the one the launcher finds.
    """
    other = _read(path)
    if other is not None and other.pid != state.pid and _is_running(other.pid):
        logger.warning("A server runs at %s already; `omlx launch` goes there unless --url says otherwise", other.url)
        yield
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(state))
    temporary.replace(path)
    try:
        yield
    finally:
        if _read(path) == state:
            path.unlink()


def _read(path: Path) -> ServerState | None:
    """What stands in the file; None where there is none, or one of another kind."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServerState)
    except (OSError, msgspec.DecodeError):
        return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
