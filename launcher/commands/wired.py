"""`omlx wired`: parse, call, print."""

from __future__ import annotations

import json

import click

from ..cli_options import json_option, this_machine


@click.command("wired", short_help="List what `omlx wire` changed.")
@json_option
def command(as_json: bool) -> None:
    """List the agents that are wired, in which files, since when, and which values are ours."""
    from ..journal import wired
    from ..terminal import columns
    from ..wire import wired_rows

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
