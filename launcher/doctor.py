"""`omlx doctor`: looks at everything that commonly goes wrong, at once, and says what to do."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .checkup import agents, server, system
from .checkup.finding import Check, Finding, Patient, fail
from .checkup.permissions import permissions
from .errors import LauncherError
from .machine import Machine
from .probing import Status, ask_status
from .state import ServerState, read_server_state

_SILENCE_SECONDS = 1.0
"""Whatever else may listen on the port, somebody waits for what is found."""

CHECKS: tuple[Check, ...] = (
    *(system.python, system.processor, system.blas, system.node),
    *(system.disk, system.memory, permissions, system.proxies),
    *(server.settings, server.server, server.stale_server, server.port),
    *(server.stranded_memory, server.models, server.downloads),
    *(agents.agents, agents.overrides, agents.windows, agents.keychain, agents.keys),
)


def examine(machine: Machine, checks: Sequence[Check] = CHECKS) -> tuple[Finding, ...]:
    """What every check finds, in their order."""
    patient = _patient(machine)
    with ThreadPoolExecutor(len(checks)) as threads:
        results = threads.map(lambda check: _findings(check, patient), checks)
        return tuple(finding for found in results for finding in found)


def _findings(check: Check, patient: Patient) -> tuple[Finding, ...]:
    name = check.__name__.replace("_", " ")
    try:
        return tuple(check(patient))
    except (LauncherError, OSError) as error:
        return (fail(name, f"it could not be looked at: {error}", "correct that, and look again"),)


def _patient(machine: Machine) -> Patient:
    state: ServerState | None = None
    status: Status | None = None
    trouble = ""
    try:
        state = read_server_state(machine.omlx_home)
        status = ask_status(machine, None, timeout=_SILENCE_SECONDS)
    except LauncherError as error:
        trouble = str(error)
    return Patient(machine, sys.platform, platform.machine(), state, status, trouble)
