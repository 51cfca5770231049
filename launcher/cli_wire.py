"""`omlx wire`, `omlx restore`, `omlx wired`: parse, call, print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .cli_options import (
    force_option,
    is_terminal,
    json_option,
    model_options,
    picker,
    this_machine,
    url_option,
    yes_option,
)

if TYPE_CHECKING:
    from .selection import Wanted
    from .state import OmlxHome
    from .wire import WiringPlan


@click.command("wire", short_help="Wire an agent for good, in its own settings.")
@click.argument("agent")
@model_options
@url_option
@click.option("--dry-run", is_flag=True, help="Print the changes and end.")
@yes_option
@force_option
def wire_command(
    agent: str,
    wanted: Wanted,
    url: str | None,
    dry_run: bool,
    yes: bool,
    force: bool,
) -> None:
    """Edit AGENT's own settings so that it uses the server whenever it is started.

    The changes are shown first, with keys masked; `omlx restore AGENT` undoes them.
    """
    from .launch import LaunchRequest, taken_aim
    from .terminal import Progress
    from .wire import plan_wiring

    machine = this_machine()
    request = LaunchRequest(agent, wanted, url)
    with Progress() as report, taken_aim(request, machine, picker(yes), report, may_start=not dry_run) as aim:
        plan = plan_wiring(aim, machine.omlx_home, force=force)
    wire(plan, machine.omlx_home, yes=yes, dry_run=dry_run)


def wire(plan: WiringPlan, home: OmlxHome, *, yes: bool, dry_run: bool = False) -> None:
    """Show the changes, ask, make them. Raises LauncherError where the user declines or nobody is there to ask."""
    from datetime import UTC, datetime

    from .wire import apply_wiring

    for warning in plan.warnings:
        click.echo(f"omlx: {warning}", err=True)
    if not plan.changes:
        click.echo(f"{plan.title} is wired so already.", err=True)
        return
    click.echo(plan.diff, nl=False)
    if dry_run:
        return
    _agree("Make these changes?", yes)
    for path in apply_wiring(plan, home, datetime.now(UTC)):
        click.echo(f"Wrote {path}. `omlx restore {plan.agent}` undoes it.", err=True)


@click.command("restore", short_help="Undo what `omlx wire` did.")
@click.argument("agent")
@click.option("--dry-run", is_flag=True, help="Print the changes and end.")
@yes_option
def restore_command(agent: str, dry_run: bool, yes: bool) -> None:
    """Put AGENT's settings back.

    A file that nobody changed since gets its old bytes; in others only the values that are still ours are put back.
    """
    from .restore import plan_restore, restore, summary
    from .review import diff

    home = this_machine().omlx_home.root
    restores = plan_restore(home, agent)
    if not restores:
        click.echo(f"{agent} is not wired.", err=True)
        return
    click.echo(diff(restores), nl=False)
    for line in summary(restores):
        click.echo(line, err=True)
    if dry_run:
        return
    _agree("Make these changes?", yes)
    for done in restore(home, agent):
        click.echo(f"Restored {done.path}." if done.after is not None else f"Removed {done.path}.", err=True)


@click.command("wired", short_help="List what `omlx wire` changed.")
@json_option
def wired_command(as_json: bool) -> None:
    """List the agents that are wired, in which files, since when, and which values are ours."""
    from .journal import wired
    from .terminal import columns
    from .wire import wired_rows

    entries = wired(this_machine().omlx_home.root)
    if as_json:
        listed = [
            {"agent": entry.agent, "path": str(entry.path), "since": entry.since.isoformat(), "values": entry.values}
            for entry in entries
        ]
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
    elif entries:
        click.echo(columns([("AGENT", "FILE", "SINCE", "OURS"), *wired_rows(entries)]))
    else:
        click.echo("Nothing is wired.", err=True)


def _agree(question: str, yes: bool) -> None:
    from .errors import LauncherError
    from .review import confirm

    if yes:
        return
    if not is_terminal():
        raise LauncherError("nobody is there to agree to these changes; give --yes to make them")
    if not confirm(question, input):
        raise LauncherError("nothing was written")
