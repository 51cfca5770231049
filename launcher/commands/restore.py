"""`omlx restore`: parse, call, print."""

from __future__ import annotations

import click

from ..cli_options import agree, check_json, json_option, show_changes, this_machine, yes_option
from ..completing import complete_wired


@click.command("restore", short_help="Undo what `omlx wire` did.")
@click.argument("agent", shell_complete=complete_wired)
@click.option("--dry-run", is_flag=True, help="Print the changes and end.")
@yes_option
@json_option
def command(agent: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Put AGENT's settings back.

    A file that nobody changed since gets its old bytes; in others only the values that are still ours are put back. One
    that is not wired is left, with exit code 0.
    """
    check_json(as_json, yes=yes, dry_run=dry_run)
    from ..launch import find_agent
    from ..restore import plan_restore, restore, summary
    from ..showing_plan import changes_json

    home = this_machine().omlx_home.root
    restores = plan_restore(home, agent)
    if not restores:
        find_agent(agent)  # a slip is no agent that is not wired; one that omlx no longer knows may be
    if as_json:
        if not dry_run:
            restore(home, agent)
        click.echo(changes_json(agent, restores, made=not dry_run, kept=summary(restores)))
        return
    if not restores:
        click.echo(f"{agent} is not wired.", err=True)
        return
    show_changes(restores)
    for line in summary(restores):
        click.echo(line, err=True)
    if dry_run:
        return
    agree("Make these changes?", yes)
    for done in restore(home, agent):
        click.echo(f"Restored {done.path}." if done.after is not None else f"Removed {done.path}.", err=True)
