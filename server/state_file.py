"""Tells the launcher how to reach this server, for as long as it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from .errors import SettingsError
from .models.placing import is_alive
from .private_folder import make_private


class ServerState(msgspec.Struct, frozen=True):
    """`url` is reachable from this machine, whatever address the server listens on. `model_dirs` are searched for its
    models; `cache_folder` is where it keeps prompt prefixes, "" where an older server does not say."""

    pid: int
    host: str
    port: int
    url: str
    instance_id: str
    model_dirs: tuple[str, ...] = ()
    cache_folder: str = ""


def reachable_url(host: str, port: int) -> str:
    """The base URL by which this machine reaches a server bound to `host`."""
    if host in ("0.0.0.0", ""):
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_writable(path: Path) -> None:
    """Raises `SettingsError` where `sole_server` could not have its place, before anything else is said or loaded."""
    _created(path.with_suffix(".lock")).close()


@contextlib.contextmanager
def sole_server(path: Path) -> Iterator[None]:
    """Be the only server with this state file for the time of the block: two would each fill the memory with models.

    The lock is the process's, so that whatever ends it frees the place. Raises `SettingsError` naming the other, or
    the home where that cannot be written.
    """
    with _created(path.with_suffix(".lock")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = _read(path)
            where = f" at {other.url} (process {other.pid})" if other else ""
            raise SettingsError(
                f"a server runs{where} already and has the memory for models; use it, end it with `omlx stop`, or "
                "give this one a home of its own: OMLX_HOME=FOLDER"
            ) from None
        yield


def running_server(path: Path) -> ServerState | None:
    """The server that this state file is of; None where its process is gone, or there is none."""
    state = _read(path)
    return state if state is not None and is_alive(state.pid) else None


@contextlib.contextmanager
def published(path: Path, state: ServerState) -> Iterator[None]:
    """Write `path` for the time of the block; at the end it is removed if it is still ours."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _created(temporary) as file:
        file.write(msgspec.json.encode(state))
    temporary.replace(path)
    try:
        yield
    finally:
        if _read(path) == state:
            path.unlink()


def _created(path: Path) -> BinaryIO:
    """The file, empty and private, in a folder that is made if need be. Raises `SettingsError`."""
    try:
        make_private(path.parent)
        return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written ({error.strerror or error}); correct its folder's owner and mode, or choose "
            "another with OMLX_HOME=FOLDER"
        ) from None


def _read(path: Path) -> ServerState | None:
    """What stands in the file; None where there is none, or one of another kind."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServerState)
    except (OSError, msgspec.DecodeError):
        return None
