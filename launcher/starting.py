"""Starts a server that outlives this command, and waits until it can answer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from .client import ServerClient
from .errors import StartFailed
from .files import file_error, private_folder
from .state import OmlxHome, ServerState, read_server_state

SERVE_COMMAND = (sys.executable, "-P", "-m", "omlx.server", "serve", "--quiet")
_POLL_SECONDS = 0.1
_SHOWN_LOG_LINES = 12

Report = Callable[[str], None]


def start_server(
    home: OmlxHome,
    environ: Mapping[str, str],
    report: Report,
    command: Sequence[str] = SERVE_COMMAND,
    timeout_seconds: float = 120.0,
) -> ServerState:
    """Start it detached, with its log under the omlx home; returns once it listens, or another that was quicker.

    `report` gets a line of progress now and then. Raises StartFailed with the log's last lines.
    """
    process, log_start = _spawn(home, environ, command)
    began = time.monotonic()
    while True:
        state = read_server_state(home)
        exit_code = process.poll()
        # A home has one server: where another launch was quicker, ours has ended for it.
        if state is not None and (state.pid == process.pid or exit_code is not None):
            return state
        waited = time.monotonic() - began
        if exit_code is not None and not _is_taken(home):
            raise StartFailed(_explained(f"the server ended with exit code {exit_code}", home.start_output, log_start))
        if waited > timeout_seconds:
            process.terminate()
            process.wait()
            raise StartFailed(
                _explained(f"the server did not listen within {waited:.0f} s", home.start_output, log_start)
            )
        report(f"starting the server… {waited:.0f} s")
        time.sleep(_POLL_SECONDS)


def stop_server(state: ServerState, timeout_seconds: float = 30.0) -> None:
    """End a server that this process started; returns when it is gone."""
    deadline = time.monotonic() + timeout_seconds
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it ended by itself meanwhile
        os.kill(state.pid, signal.SIGTERM)
        while os.waitpid(state.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(state.pid, signal.SIGKILL)
                os.waitpid(state.pid, 0)
                return
            time.sleep(_POLL_SECONDS)


def wait_until_loaded(
    client: ServerClient, names: Collection[str], report: Report, timeout_seconds: float = 600.0
) -> None:
    """Wait while the server loads any of these models. Raises StartFailed where it could not, or time is up."""
    began = time.monotonic()
    while True:
        health = client.health()
        waited = time.monotonic() - began
        failed = [name for name in health.failed if name in names]
        loading = ", ".join(name for name in health.loading if name in names)
        if failed:
            reasons = "; ".join(f"{name}: {health.reasons.get(name) or 'its log says why'}" for name in failed)
            raise StartFailed(f"the server could not load {reasons}")
        if not loading:
            return
        if waited > timeout_seconds:
            raise StartFailed(f"{loading} did not load within {waited:.0f} s; the server's log may say why")
        report(f"loading {loading}… {waited:.0f} s")
        time.sleep(_POLL_SECONDS)


def _spawn(home: OmlxHome, environ: Mapping[str, str], command: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and where its words begin in the log. Raises FileError where there can be none."""
    private_folder(home.start_output.parent)
    try:
        log = open(home.start_output, "ab")  # noqa: SIM115
    except OSError as error:
        raise file_error(home.start_output, "write", error) from error
    with log:
        begin = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=home.root,
            env=environ,
        )
    return process, begin


def _is_taken(home: OmlxHome) -> bool:
    """Whether a server runs here, though it may not listen yet."""
    try:
        with home.server_lock.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _explained(fact: str, log_path: Path, log_start: int) -> str:
    with open(log_path, "rb") as log:
        log.seek(log_start)
        lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    shown = "".join(f"\n  {line}" for line in lines[-_SHOWN_LOG_LINES:]) or "\n  (it wrote nothing)"
    return f"{fact}. Its log, {log_path}, ends:{shown}"
