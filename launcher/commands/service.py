"""`omlx service`: parse, call, print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ..cli_options import json_option, this_machine

if TYPE_CHECKING:
    from ..machine import Machine
    from ..service import Manager, Service


@click.group("service", short_help="Run the server as a service of yours.")
def command() -> None:
    """Run the server as a launch agent (macOS) or a systemd user unit (Linux), as the settings say.

    It starts when you log in, and again after a crash. One that three times in a row lives less than a minute stays
    ended, and says why in ~/.omlx/logs/server.log; what it says outside its log is in service.log beside it.
    """


@command.command("install", short_help="Write the service's file and start it.")
@click.option("--dry-run", is_flag=True, help="Print the service's file and end.")
@json_option
def install_command(dry_run: bool, as_json: bool) -> None:
    """Write the service's file and start it; a service that is there is replaced."""
    from ..service import install

    machine, manager, service = _service()
    if dry_run:
        click.echo(manager.text(service), nl=False)
        return
    _check_free(machine, manager)
    install(manager, service)
    manager.start()
    _tell(as_json, f"Installed {manager.path} and started it.", {"installed": True, "path": str(manager.path)})


@command.command("start")
@json_option
def start_command(as_json: bool) -> None:
    """Start the service that is installed."""
    from ..service import require

    machine, manager, _ = _service()
    require(manager)
    _check_free(machine, manager)
    manager.start()
    _tell(as_json, "Started. `omlx service status` says how it does.", {"started": True})


@command.command("stop")
@json_option
def stop_command(as_json: bool) -> None:
    """Stop the service; it starts again at the next log-in."""
    from ..service import require

    _, manager, _ = _service()
    require(manager)
    manager.stop()
    _tell(as_json, "Stopped.", {"stopped": True})


@command.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """Say whether it is installed, and runs. Exit code 4 where it does not run."""
    from ..errors import ENDPOINT_BROKEN
    from ..state import read_server_state

    machine, manager, service = _service()
    is_installed = manager.path.exists()
    is_active = is_installed and manager.is_active()
    state = read_server_state(machine.omlx_home) if is_active else None
    found = {
        "manager": manager.name,
        "path": str(manager.path),
        "installed": is_installed,
        "active": is_active,
        "url": state.url if state else None,
        "pid": state.pid if state else None,
        "log": str(machine.omlx_home.server_log),
        "output": str(service.home.service_output),
    }
    where = f" at {state.url}, process {state.pid}" if state else ", and does not listen yet" if is_active else ""
    words = "runs" if is_active else "is installed and does not run" if is_installed else "is not installed"
    remedy = "" if is_active else "; `omlx service start`" if is_installed else "; `omlx service install`"
    log = f"\nLog: {machine.omlx_home.server_log}" if is_installed else ""
    _tell(as_json, f"The service ({manager.name}) {words}{where}{remedy}.{log}", found)
    if not is_active:
        raise click.exceptions.Exit(ENDPOINT_BROKEN)


@command.command("uninstall")
@json_option
def uninstall_command(as_json: bool) -> None:
    """Stop the service and remove its file. Models, settings and logs stay."""
    from ..service import uninstall

    _, manager, _ = _service()
    removed = uninstall(manager)
    _tell(as_json, f"Removed {manager.path}." if removed else "The service was not installed.", {"removed": removed})


def _service() -> tuple[Machine, Manager, Service]:
    import sys

    from ..service import COMMAND, Service, manager_of, system_runner

    machine = this_machine()
    return machine, manager_of(machine, sys.platform, system_runner), Service(COMMAND, machine.omlx_home)


def _check_free(machine: Machine, manager: Manager) -> None:
    """Raises ServiceError where a server runs that the service would get in the way of."""
    from ..errors import ServiceError
    from ..state import read_server_state

    state = read_server_state(machine.omlx_home)
    if state is not None and not manager.is_active():
        raise ServiceError(f"a server runs at {state.url} already, process {state.pid}; end it with `omlx stop` first")


def _tell(as_json: bool, text: str, value: dict[str, object]) -> None:
    click.echo(json.dumps(value) if as_json else text)
