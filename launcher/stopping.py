"""`omlx stop`: ends the server that runs on this machine, and makes sure that it is one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .errors import StateError
from .state import OmlxHome, ServerState, is_alive, read_server_state

_POLL_SECONDS = 0.05
_LAST_SECONDS = 5.0


def stop_running(home: OmlxHome, seconds: float, report: Callable[[str], None]) -> ServerState | None:
    """End the server of this home: it has `seconds` to finish its requests. None where none runs.

    Raises StateError where the process is no server of omlx's, or does not end.
    """
    state = read_server_state(home)
    if state is None:
        return None
    command = command_of(state.pid)
    if command is not None and "omlx.server" not in command and "omlx serve" not in command:
        raise StateError(f"process {state.pid} is no omlx server any more; delete {home.server_state}")
    for sent, patience in ((signal.SIGTERM, seconds), (signal.SIGTERM, _LAST_SECONDS), (signal.SIGKILL, _LAST_SECONDS)):
        if _ended(state.pid, sent, patience, report):
            with suppress(FileNotFoundError):
                if sent is signal.SIGKILL:  # it had no time to do so itself
                    home.server_state.unlink()
            return state
    raise StateError(f"the server, process {state.pid}, does not end; look at it with `ps`")


def command_of(pid: int) -> str | None:
    """The command line of a process; None where it cannot be told."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    try:
        asked = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return asked.stdout.strip() or None


def _ended(pid: int, sent: signal.Signals, seconds: float, report: Callable[[str], None]) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, sent)
    began = time.monotonic()
    while is_alive(pid):
        waited = time.monotonic() - began
        if waited > seconds:
            return False
        report(f"the server finishes its requests… {waited:.0f} s")
        time.sleep(_POLL_SECONDS)
    return True
