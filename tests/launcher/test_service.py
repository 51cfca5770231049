"""The service as launchd and systemd are told of it, with a scripted system in their place."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from omlx.launcher.commands.stop import command as stop_command
from omlx.launcher.errors import ServiceError
from omlx.launcher.machine import Machine
from omlx.launcher.service import (
    COMMAND,
    LABEL,
    UNIT,
    Ran,
    Service,
    install,
    launchd_plist,
    manager_of,
    require,
    systemd_unit,
    uninstall,
)
from omlx.launcher.state import OmlxHome
from omlx.server.settings.values import ServerSettings

from .conftest import Omlx
from .test_keys import serve_here

PRINTED = """\
gui/501/omlx.server = {
\tactive count = 1
\tpath = /Users/me/Library/LaunchAgents/omlx.server.plist
\ttype = LaunchAgent
\tstate = STATE

\tprogram = /opt/omlx/bin/python
\targuments = {
\t\t/opt/omlx/bin/python
\t\t-P
\t}

\tendpoints = {
\t\t"omlx.server" = {
\t\t\tstate = running
\t\t}
\t}

\truns = 4
\tlast exit code = 0
}
"""
"""Of `launchctl print gui/501/omlx.server`, shortened."""


class System:
    """Remembers what was run; `answers` maps a verb to its exit code."""

    def __init__(self, **answers: int) -> None:
        self.answers = answers
        self.ran: list[str] = []

    def __call__(self, arguments: Sequence[str]) -> Ran:
        self.ran.append(" ".join(arguments))
        verb = next((part for part in arguments if part.replace("-", "_") in self.answers), "")
        return Ran(self.answers.get(verb.replace("-", "_"), 0), "no bus" if verb else "")


@pytest.fixture
def service(machine: Machine) -> Service:
    return Service(COMMAND, machine.omlx_home)


def test_the_launch_agent_is_started_again_after_a_crash_only(service: Service, machine: Machine):
    agent = plistlib.loads(launchd_plist(service).encode())
    home = machine.omlx_home.root
    assert agent == {
        "Label": LABEL,
        "ProgramArguments": list(COMMAND),
        "EnvironmentVariables": {"OMLX_HOME": str(home)},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": 35,
        "ProcessType": "Interactive",
        "Umask": 0o077,
        "WorkingDirectory": str(home),
        "StandardOutPath": str(home / "logs" / "service.log"),
        "StandardErrorPath": str(home / "logs" / "service.log"),
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze (Debian: apt install systemd)")
@pytest.mark.parametrize("folder", ["plain", 'odd "%h" $HOME \\ name'])
def test_systemd_takes_the_unit(tmp_path: Path, folder: str):
    service = Service((*COMMAND, "an argument"), OmlxHome(tmp_path / folder))
    unit = tmp_path / UNIT
    unit.write_text(systemd_unit(service))
    command = ["systemd-analyze", "verify", "--user", "--man=no", str(unit)]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    verified = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    ours = [line for line in verified.stderr.splitlines() if UNIT in line]
    assert (verified.returncode, ours) == (0, []), verified.stderr


def test_the_unit_says_how_it_is_restarted(service: Service):
    lines = systemd_unit(service).splitlines()
    restarts = ("Restart=on-failure", "OOMPolicy=continue", "RestartSec=10", "StartLimitBurst=10")
    for line in (*restarts, "WantedBy=default.target"):
        assert line in lines


def test_who_ends_the_server_waits_for_longer_than_it_gives_its_requests(service: Service):
    needed = ServerSettings().shutdown_grace_seconds + 5  # its engines have something to save
    assert plistlib.loads(launchd_plist(service).encode())["ExitTimeOut"] >= needed
    (unit_timeout,) = [line for line in systemd_unit(service).splitlines() if line.startswith("TimeoutStopSec=")]
    assert float(unit_timeout.removeprefix("TimeoutStopSec=")) >= needed
    (patience,) = [option.default for option in stop_command.params if option.name == "timeout"]
    assert isinstance(patience, float)
    assert patience >= needed


@pytest.mark.parametrize(
    ("platform", "place", "started"),
    [
        ("linux", f".config/systemd/user/{UNIT}", f"systemctl --user start {UNIT}"),
        ("darwin", f"Library/LaunchAgents/{LABEL}.plist", "launchctl bootstrap gui/"),
    ],
)
def test_a_service_is_installed_started_and_removed(machine: Machine, platform: str, place: str, started: str):
    system = System(**{"print": 113} if platform == "darwin" else {})
    manager = manager_of(machine, platform, system)
    with pytest.raises(ServiceError, match="omlx service install"):
        require(manager)
    install(manager, Service(COMMAND, machine.omlx_home))
    require(manager)
    manager.start()
    assert system.ran[-1].startswith(started)
    assert manager.path == machine.user_home / place
    assert machine.omlx_home.service_output.parent.stat().st_mode & 0o777 == 0o700
    assert uninstall(manager)
    assert not manager.path.exists()
    assert not uninstall(manager)


@pytest.mark.parametrize(("state", "is_active"), [("running", True), ("not running", False), ("waiting", False)])
def test_a_launch_agent_that_is_loaded_and_has_ended_does_not_run(machine: Machine, state: str, is_active: bool):
    ran: list[str] = []

    def system(arguments: Sequence[str]) -> Ran:
        ran.append(arguments[1])
        return Ran(0, PRINTED.replace("STATE", state).strip())

    manager = manager_of(machine, "darwin", system)
    assert manager.is_active() is is_active
    manager.start()
    manager.stop()
    assert [verb for verb in ran if verb != "print"] == ["kickstart", "bootout"]


@pytest.mark.parametrize(("state", "exit_code"), [("running", 0), ("not running", 4)])
def test_the_commands_ask_whether_the_launch_agent_runs(
    machine: Machine, service: Service, omlx: Omlx, monkeypatch: pytest.MonkeyPatch, state: str, exit_code: int
):
    manager = manager_of(machine, "darwin", lambda _: Ran(0, PRINTED.replace("STATE", state).strip()))
    install(manager, service)
    monkeypatch.setattr("omlx.launcher.commands.service._service", lambda: (machine, manager, service))
    told = omlx("service", "status", "--json")
    assert (told.exit_code, json.loads(told.stdout)["active"]) == (exit_code, exit_code == 0)
    serve_here(machine.omlx_home.root, "http://127.0.0.1:8123")
    started = omlx("service", "start")
    assert (started.exit_code == 0, "end it with `omlx stop` first" in started.stderr) == (
        exit_code == 0,
        exit_code != 0,
    )


def test_a_system_without_a_session_is_told_with_its_remedy(machine: Machine, service: Service):
    manager = manager_of(machine, "linux", System(daemon_reload=1))
    with pytest.raises(ServiceError, match=r"daemon-reload` failed: no bus\. It needs a log-in session.*omlx serve"):
        install(manager, service)
    assert not manager.path.exists()
    manager.path.write_text("as it was")
    with pytest.raises(ServiceError):
        install(manager, service)
    assert manager.path.read_text() == "as it was"
    with pytest.raises(ServiceError, match="this is win32"):
        manager_of(machine, "win32", System())
