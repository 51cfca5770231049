"""`omlx launch`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..cli_options import (
    force_option,
    is_terminal,
    json_option,
    model_options,
    picker,
    this_machine,
    url_option,
    yes_option,
)
from ..completing import complete_agent
from .wire import wire

if TYPE_CHECKING:
    from ..arrival import Arrival
    from ..launch import Aim
    from ..machine import Machine
    from ..plan import LaunchPlan
    from ..selection import Wanted
    from ..wire import WiringPlan


class _Launch(click.Command):
    """Who gives it an option of the agent's is told where these stand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = f"The agent's own options stand after `--`: omlx launch AGENT -- {error.option_name}"
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from error


@click.command("launch", cls=_Launch, short_help="Start a coding agent, wired to the server.")
@click.argument("agent", shell_complete=complete_agent, required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@model_options
@url_option
@click.option("--list", "is_list", is_flag=True, help="List the agents and end.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and end.")
@click.option("--print-env", is_flag=True, help="Print the wiring as shell lines and end.")
@click.option("--persist", is_flag=True, help="Wire it for good first, as `omlx wire` does.")
@json_option
@yes_option
@force_option
def command(
    agent: str | None,
    arguments: tuple[str, ...],
    wanted: Wanted,
    url: str | None,
    is_list: bool,
    dry_run: bool,
    print_env: bool,
    persist: bool,
    as_json: bool,
    yes: bool,
    force: bool,
) -> None:
    """Start AGENT wired to the server for this run only; no file of yours is changed.

    The agent's own arguments stand after `--`: omlx launch pi -- -p "hello"
    """
    from ..launch import LaunchRequest, locate, taken_aim
    from ..terminal import Progress
    from ..wire import check_wirable, plan_wiring

    _check_together(is_list=is_list, dry_run=dry_run, print_env=print_env, persist=persist, as_json=as_json)
    machine = this_machine()
    if is_list:
        _print_agents(machine, as_json=as_json)
        return
    agent = agent or _picked_agent(machine, yes=yes)
    if persist:
        check_wirable(agent)
    runs = not dry_run and not print_env
    executable = locate(agent, machine) if runs else ""
    request = LaunchRequest(agent, wanted, url, arguments)
    pick = picker(yes)
    with (
        Progress() as report,
        taken_aim(request, machine, pick, report, may_start=runs, may_guess=dry_run) as aim,
    ):
        aim = aim.for_a_shell(machine.omlx_home) if print_env else aim
        plan = aim.plan(force=force, persist=persist)
        wiring = plan_wiring(aim, machine.omlx_home, force=force) if persist else None
        report.clear()
        if not runs:
            _show(aim, plan, wiring, machine, as_lines=print_env, as_json=as_json)
        if wiring is not None and not as_json:
            wire(wiring, machine.omlx_home, yes=yes, dry_run=not runs)
        arrival = aim.announce(report) if runs else None
    if runs:
        _start(plan, executable, machine, arrival)


def _check_together(*, is_list: bool, dry_run: bool, print_env: bool, persist: bool, as_json: bool) -> None:
    if sum((is_list, dry_run, print_env)) > 1:
        raise click.UsageError("give one of --list, --dry-run and --print-env")
    if persist and print_env:  # a shell that takes the lines would run the diff
        raise click.UsageError("--print-env wires one shell, and --persist the agent's own settings: give one of them")
    if as_json and not is_list and not dry_run:
        raise click.UsageError("--json goes with --list or --dry-run")


def _picked_agent(machine: Machine, *, yes: bool) -> str:
    from ..launch import list_agents
    from ..terminal import pick_agent

    if yes or not is_terminal():
        _print_agents(machine, as_json=False)
        raise click.UsageError("name one of these agents")
    return pick_agent(list_agents(machine))


def _print_agents(machine: Machine, *, as_json: bool) -> None:
    from ..launch import list_agents
    from ..showing import agents_json, agents_text

    agents = list_agents(machine)
    click.echo(agents_json(agents) if as_json else agents_text(agents))


def _start(plan: LaunchPlan, executable: str, machine: Machine, arrival: Arrival | None) -> None:
    """Say what the user should know, and become the agent."""
    from ..launch import launch

    for warning in plan.warnings:
        click.echo(f"omlx: {warning}", err=True)
    launch(plan, executable, machine, arrival)


def _show(
    aim: Aim, plan: LaunchPlan, wiring: WiringPlan | None, machine: Machine, *, as_lines: bool, as_json: bool
) -> None:
    from ..showing_plan import plan_json, plan_text

    if as_lines:
        _print_lines(aim, plan, machine)
    else:
        changes = wiring.changes if wiring is not None else ()
        click.echo(plan_json(plan, changes) if as_json else plan_text(plan))


def _print_lines(aim: Aim, plan: LaunchPlan, machine: Machine) -> None:
    """Lines for a shell, with the files that they name written."""
    from ..process import write_run_files
    from ..showing_plan import plan_shell

    for warning in plan.warnings:
        click.echo(f"omlx: {warning}", err=True)
    write_run_files(plan)
    if plan.files:
        click.echo(
            f"omlx: the lines name files in {machine.omlx_home.shell_directory(plan.agent)}; "
            "remove that folder when no shell uses them any more",
            err=True,
        )
    click.echo(plan_shell(plan, aim.has_key, aim.is_key_in_shell))
