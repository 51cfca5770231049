"""The server as a service of the user's: what launchd and systemd are told, as text, and how each is spoken to."""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .errors import ServiceError
from .files import private_folder
from .machine import Machine
from .state import OmlxHome

LABEL = "omlx.server"
UNIT = "omlx.service"
COMMAND = (sys.executable, "-P", "-m", "omlx.server", "serve", "--service")
_RUNNING = re.compile(r"^\tstate = running$", re.MULTILINE)
"""The service's own line of `launchctl print`; those of its sockets and the like stand further in."""
_THROTTLE_SECONDS = 10
_END_SECONDS = 35
"""More than the server gives its requests; after that the system kills it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program of the system's ended, and what it said."""

    exit_code: int
    said: str


Runner = Callable[[Sequence[str]], Ran]


@dataclass(frozen=True, slots=True)
class Service:
    """The program, its surroundings, and the file that holds what it says outside its log."""

    command: tuple[str, ...]
    home: OmlxHome

    @property
    def variables(self) -> dict[str, str]:
        return {"OMLX_HOME": str(self.home.root)}


class Manager(Protocol):
    """launchd or systemd. Its verbs raise ServiceError with what it said."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path: ...

    def text(self, service: Service) -> str: ...

    def load(self) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def unload(self) -> None: ...

    def is_active(self) -> bool:
        """Whether its process runs."""
        ...


def systemd_unit(service: Service) -> str:
    """A user unit: started again after a crash, with a pause; ended for good after too many of them. Where memory runs
    out and an engine is killed, the server goes on and starts another."""
    variables = "\n".join(f"Environment={_quoted(f'{name}={value}')}" for name, value in service.variables.items())
    output = str(service.home.service_output).replace("%", "%%")
    return f"""\
[Unit]
Description=omlx, a server of models for coding agents
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=exec
ExecStart={" ".join(_quoted(part).replace("$", "$$") for part in service.command)}
{variables}
Restart=on-failure
OOMPolicy=continue
RestartSec={_THROTTLE_SECONDS}
TimeoutStopSec={_END_SECONDS}
UMask=0077
StandardOutput=append:{output}
StandardError=append:{output}

[Install]
WantedBy=default.target
"""


def launchd_plist(service: Service) -> str:
    """A launch agent: started at log-in and after a crash, with a pause; one that ends with 0 stays ended."""
    output = str(service.home.service_output)
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(service.command),
            "EnvironmentVariables": service.variables,
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": _THROTTLE_SECONDS,
            "ExitTimeOut": _END_SECONDS,
            "ProcessType": "Interactive",
            "Umask": 0o077,
            "WorkingDirectory": str(service.home.root),
            "StandardOutPath": output,
            "StandardErrorPath": output,
        }
    ).decode()


@dataclass(frozen=True, slots=True)
class Systemd:
    path: Path
    run: Runner
    name: str = "systemd"

    def text(self, service: Service) -> str:
        return systemd_unit(service)

    def load(self) -> None:
        self._control("daemon-reload")
        self._control("enable", UNIT)

    def start(self) -> None:
        self._control("reset-failed", UNIT)
        self._control("start", UNIT)

    def stop(self) -> None:
        self._control("stop", UNIT)

    def unload(self) -> None:
        self._control("disable", "--now", UNIT)

    def is_active(self) -> bool:
        return self.run(["systemctl", "--user", "is-active", "--quiet", UNIT]).exit_code == 0

    def _control(self, *arguments: str) -> None:
        ran = self.run(["systemctl", "--user", *arguments])
        if ran.exit_code != 0 and arguments[0] != "reset-failed":
            raise ServiceError(
                f"`systemctl --user {' '.join(arguments)}` failed: {ran.said or ran.exit_code}. "
                "It needs a log-in session with systemd; where there is none, such as in a container, run `omlx serve`"
            )


@dataclass(frozen=True, slots=True)
class Launchd:
    path: Path
    run: Runner
    user_id: int
    name: str = "launchd"

    def text(self, service: Service) -> str:
        return launchd_plist(service)

    def load(self) -> None:
        self.unload()

    def start(self) -> None:
        if self._printed() is None:
            self._control("bootstrap", f"gui/{self.user_id}", str(self.path))
        else:
            self._control("kickstart", self._target)

    def stop(self) -> None:
        self.unload()

    def unload(self) -> None:
        if self._printed() is not None:
            self._control("bootout", self._target)

    def is_active(self) -> bool:
        """A service that has ended stays loaded: what launchd says of it tells whether it runs."""
        printed = self._printed()
        return printed is not None and _RUNNING.search(printed) is not None

    def _printed(self) -> str | None:
        """What launchd says of the service; None where it is not loaded."""
        ran = self.run(["launchctl", "print", self._target])
        return ran.said if ran.exit_code == 0 else None

    @property
    def _target(self) -> str:
        return f"gui/{self.user_id}/{LABEL}"

    def _control(self, *arguments: str) -> None:
        ran = self.run(["launchctl", *arguments])
        if ran.exit_code != 0:
            raise ServiceError(f"`launchctl {' '.join(arguments)}` failed: {ran.said or ran.exit_code}")


def manager_of(machine: Machine, platform: str, run: Runner) -> Manager:
    """Raises ServiceError on a system that has neither."""
    if platform == "darwin":
        return Launchd(machine.user_home / "Library" / "LaunchAgents" / f"{LABEL}.plist", run, os.getuid())
    if platform.startswith("linux"):
        config = Path(machine.environ.get("XDG_CONFIG_HOME") or machine.user_home / ".config")
        return Systemd(config / "systemd" / "user" / UNIT, run)
    raise ServiceError(f"omlx knows launchd and systemd, and this is {platform}; run `omlx serve`")


def install(manager: Manager, service: Service) -> None:
    """Write the service's file and make the system know it; one that was there is replaced.

    Where the system refuses, the file is as it was before.
    """
    private_folder(service.home.root)
    private_folder(service.home.service_output.parent)
    try:
        before = manager.path.read_bytes() if manager.path.exists() else None
        manager.path.parent.mkdir(parents=True, exist_ok=True)
        manager.path.write_text(manager.text(service), encoding="utf-8")
    except OSError as error:
        raise ServiceError(f"{manager.path} cannot be written: {error.strerror}") from error
    try:
        manager.load()
    except ServiceError:
        if before is None:
            manager.path.unlink()
        else:
            manager.path.write_bytes(before)
        raise


def uninstall(manager: Manager) -> bool:
    """End the service and remove its file; says whether there was one."""
    if not manager.path.exists():
        return False
    manager.unload()
    manager.path.unlink()
    return True


def require(manager: Manager) -> None:
    if not manager.path.exists():
        raise ServiceError("the service is not installed; `omlx service install` does that, and starts it")


def system_runner(arguments: Sequence[str]) -> Ran:
    try:
        ran = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        return Ran(127, f"there is no {arguments[0]} here")
    except subprocess.TimeoutExpired:
        return Ran(124, "it did not end within a minute")
    return Ran(ran.returncode, (ran.stdout if ran.returncode == 0 else ran.stderr or ran.stdout).strip())


def _quoted(text: str) -> str:
    """One word of a unit's line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
