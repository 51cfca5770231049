"""The `omlx` command: parses, calls, prints. Libraries that cost start-up time are imported inside the commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from .machine import Machine

_SERVER_COMMAND = {"ignore_unknown_options": True, "help_option_names": []}
_URL_HELP = "The server's address.  [default: OMLX_URL, the running server, http://127.0.0.1:8000]"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="omlx", message="omlx %(version)s")
def commands() -> None:
    """Coding agents on models you run yourself.

    Exit codes: 0 done, 1 refused, 2 wrong usage, 3 a probe's answer was wrong, 4 the server is down or broken.
    """


@commands.command("serve", context_settings=_SERVER_COMMAND, short_help="Serve models over HTTP.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve_command(arguments: tuple[str, ...]) -> None:
    _become_server("serve", arguments)


@commands.command("import", context_settings=_SERVER_COMMAND, short_help="Turn a GGUF file into a model folder.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def import_command(arguments: tuple[str, ...]) -> None:
    _become_server("import", arguments)


@commands.command("launch", short_help="Start a coding agent, wired to the server.")
@click.argument("agent", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--model", help="The model to work with.  [default: the only one, or the last one]")
@click.option("--opus", help="The model for the agent's largest tier.  [default: --model]")
@click.option("--sonnet", help="The model for its middle tier.  [default: --model]")
@click.option("--haiku", help="The model for its smallest tier.  [default: --model]")
@click.option("--url", help=_URL_HELP)
@click.option("--list", "is_list", is_flag=True, help="List the agents and end.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and end.")
@click.option("--print-env", is_flag=True, help="Print the wiring as shell lines and end.")
@click.option("--json", "as_json", is_flag=True, help="Print --list and --dry-run as JSON.")
@click.option("--yes", is_flag=True, help="Ask nothing: where a choice is open, fail.")
@click.option("--force", is_flag=True, help="Launch though the window is too small for the agent.")
def launch_command(
    agent: str | None,
    arguments: tuple[str, ...],
    model: str | None,
    opus: str | None,
    sonnet: str | None,
    haiku: str | None,
    url: str | None,
    is_list: bool,
    dry_run: bool,
    print_env: bool,
    as_json: bool,
    yes: bool,
    force: bool,
) -> None:
    """Start AGENT wired to the server for this run only; no file of yours is changed.

    The agent's own arguments stand after `--`: omlx launch pi -- -p "hello"
    """
    from ..integrations import names
    from ..integrations.spec import KEY_VARIABLE
    from . import showing
    from .launch import LaunchRequest, find_agent, launch, locate, plan_launch
    from .process import is_installed
    from .selection import Wanted
    from .terminal import Progress, pick_model

    machine = _machine()
    if is_list:
        agents = [
            (found, is_installed(found, machine.environ, machine.user_home)) for found in map(find_agent, names())
        ]
        click.echo(showing.agents_json(agents) if as_json else showing.agents_text(agents))
        return
    if agent is None:
        raise click.UsageError(f"name an agent: {', '.join(names())}")
    is_only_shown = dry_run or print_env
    executable = "" if is_only_shown else locate(agent, machine)
    request = LaunchRequest(agent, Wanted(model, opus, sonnet, haiku), url, arguments, force)
    pick = None if yes or not (sys.stdin.isatty() and sys.stderr.isatty()) else pick_model
    with Progress() as report:
        plan = plan_launch(request, machine, pick, report, may_start=not is_only_shown)
    if print_env:
        click.echo(showing.plan_shell(plan, has_own_key=bool(machine.environ.get(KEY_VARIABLE))))
    elif dry_run:
        click.echo(showing.plan_json(plan) if as_json else showing.plan_text(plan))
    else:
        for warning in plan.warnings:
            click.echo(f"omlx: {warning}", err=True)
        launch(plan, executable, machine)


@commands.command("probe", short_help="Ask an endpoint seven questions: speed and sense.")
@click.option("--url", help=_URL_HELP)
@click.option("--model", help="The model to ask.  [default: the only one]")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def probe_command(url: str | None, model: str | None, as_json: bool) -> None:
    """Ask an OpenAI-compatible endpoint seven questions and print how fast and how well it answers.

    Exit codes: 0 all right, 3 an answer was wrong, 4 the endpoint is broken.
    """
    from . import showing
    from .probe import exit_code
    from .probing import probe_server
    from .terminal import Progress

    with Progress() as report:
        probed = probe_server(_machine(), url, model, report)
    click.echo(showing.probe_json(probed) if as_json else showing.probe_text(probed))
    sys.exit(exit_code(probed.results))


@commands.command("status", short_help="Say where the server is and what it serves.")
@click.option("--url", help=_URL_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status_command(url: str | None, as_json: bool) -> None:
    """Say where the server is, how it is, and what it serves; exit code 4 where it is down."""
    from . import showing
    from .probing import ask_status

    status = ask_status(_machine(), url)
    click.echo(showing.status_json(status) if as_json else showing.status_text(status))


def main() -> None:
    """The console script."""
    from .errors import LauncherError

    try:
        commands(prog_name="omlx")
    except LauncherError as error:
        click.echo(f"omlx: {error}", err=True)
        sys.exit(error.exit_code)


def _become_server(command: str, arguments: tuple[str, ...]) -> NoReturn:
    """The server's side has its own commands and its own help; the process becomes it."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "omlx.server", command, *arguments])


def _machine() -> Machine:
    from .machine import Machine

    return Machine(os.environ, Path.home(), Path.cwd())
