"""`omlx wire`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..cli_options import (
    agree,
    check_json,
    force_option,
    json_option,
    model_options,
    picker,
    show_changes,
    this_machine,
    url_option,
    yes_option,
)
from ..completing import complete_agent

if TYPE_CHECKING:
    from ..selection import Wanted
    from ..state import OmlxHome
    from ..wire import WiringPlan

_STARTED = (
    "omlx: no server runs, so one is started to be asked for its models; it goes on until `omlx stop`, or ends here "
    "where the wiring is refused"
)


@click.command("wire", short_help="Wire an agent for good, in its own settings.")
@click.argument("agent", shell_complete=complete_agent)
@model_options
@url_option
@click.option("--dry-run", is_flag=True, help="Print the changes and end.")
@yes_option
@force_option
@json_option
def command(
    agent: str,
    wanted: Wanted,
    url: str | None,
    dry_run: bool,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Edit AGENT's own settings so that it uses the server whenever it is started.

    Where no server runs, one is started to be asked for its models and their windows.

    The changes are shown first, with keys masked; `omlx restore AGENT` undoes them.
    """
    check_json(as_json, yes=yes, dry_run=dry_run)
    from ..launch import LaunchRequest, taken_aim
    from ..reach import is_up
    from ..terminal import Progress
    from ..wire import check_wirable, plan_wiring

    check_wirable(agent)
    machine = this_machine()
    if not dry_run and not is_up(machine, url):
        click.echo(_STARTED, err=True)
    request = LaunchRequest(agent, wanted, url)
    with (
        Progress() as report,
        taken_aim(request, machine, picker(yes), report, may_start=not dry_run, may_guess=dry_run) as aim,
    ):
        plan = plan_wiring(aim, machine.omlx_home, force=force)
    wire(plan, machine.omlx_home, yes=yes, dry_run=dry_run, as_json=as_json)


def wire(plan: WiringPlan, home: OmlxHome, *, yes: bool, dry_run: bool = False, as_json: bool = False) -> None:
    """Show the changes, ask, make them. Raises LauncherError where the user declines or nobody is there to ask."""
    from datetime import UTC, datetime

    from ..showing_plan import changes_json
    from ..wire import apply_wiring

    if as_json:
        if not dry_run:
            apply_wiring(plan, home, datetime.now(UTC))
        click.echo(changes_json(plan.agent, plan.changes, made=not dry_run, warnings=plan.warnings))
        return
    show_changes(plan.changes)
    for warning in plan.warnings:  # below the changes, which may be long
        click.echo(f"omlx: {warning}", err=True)
    if not plan.changes:
        click.echo(f"{plan.title} is wired so already.", err=True)
    if dry_run or not plan.changes:
        return
    agree("Make these changes?", yes)
    for path in apply_wiring(plan, home, datetime.now(UTC)):
        click.echo(f"Wrote {path}. `omlx restore {plan.agent}` undoes it.", err=True)
