"""`omlx logs`: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import click

from ..cli_options import json_option, this_machine

_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


@click.command("logs", short_help="Show the server's log.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
@click.option("-n", "--lines", default=100, show_default=True, help="How many of the last lines.")
@click.option(
    "--level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="Lines of this level and above.",
)
@json_option
def command(follow: bool, lines: int, level: str, as_json: bool) -> None:
    """Show the last lines of ~/.omlx/logs/server.log. With --json each is an object on a line of its own."""
    from ..logs import read_log

    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for line in read_log(this_machine().omlx_home.server_log, lines, level.upper(), follow=follow):
        if as_json:
            shown = {name: value for name, value in asdict(line).items() if name != "text"}
            click.echo(json.dumps(shown, ensure_ascii=False))
            continue
        colour = _COLOURS.get(line.level) if coloured else None
        click.echo(click.style(line.text, fg=colour) if colour else line.text)
