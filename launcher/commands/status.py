"""`omlx status`: parse, call, print."""

from __future__ import annotations

import click

from ..cli_options import json_option, this_machine, url_option


@click.command("status", short_help="Say where the server is and what it serves.")
@url_option
@json_option
def command(url: str | None, as_json: bool) -> None:
    """Say where the server is, how it is, and what it serves; exit code 4 where it is down."""
    from .. import showing
    from ..probing import ask_status

    status = ask_status(this_machine(), url)
    click.echo(showing.status_json(status) if as_json else showing.status_text(status))
