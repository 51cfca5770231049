"""`omlx stop`: parse, call, print."""

from __future__ import annotations

import json

import click

from ..cli_options import json_option, this_machine


@click.command("stop", short_help="Stop the server on this machine.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds that its requests may take to end.")
@json_option
def command(timeout: float, as_json: bool) -> None:
    """Stop the server that runs on this machine, however it was started. Exit code 0 also where none runs."""
    from ..stopping import stop_running
    from ..terminal import Progress

    with Progress() as report:
        stopped = stop_running(this_machine().omlx_home, timeout, report)
    if as_json:
        found = None if stopped is None else {"pid": stopped.pid, "url": stopped.url}
        click.echo(json.dumps({"stopped": stopped is not None, "server": found}))
    elif stopped is None:
        click.echo("No server runs here.", err=True)
    else:
        click.echo(f"Stopped the server at {stopped.url}.")
