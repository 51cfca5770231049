"""`omlx wired`: parse, call, print."""

from __future__ import annotations

import json

import click

from ..cli_options import json_option, this_machine


@click.command("wired", short_help="List what `omlx wire` changed.")
@click.option("-v", "--verbose", is_flag=True, help="Name each of our values, a line each.")
@json_option
def command(verbose: bool, as_json: bool) -> None:
    """List the agents that are wired, in which files, since when, and how many values there are ours."""
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
        head, *lines = columns([("AGENT", "FILE", "SINCE", "OURS"), *wired_rows(entries)]).splitlines()
        click.echo(head)
        for line, entry in zip(lines, entries, strict=True):
            click.echo("\n".join([line, *(f"  {name}" for name in entry.values if verbose)]))
    else:
        click.echo("Nothing is wired.", err=True)
