"""`omlx doctor`: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import click

from ..cli_options import json_option, this_machine

_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}


@click.command("doctor", short_help="Look for what commonly goes wrong.")
@json_option
def command(as_json: bool) -> None:
    """Look at the machine, the server, the models, the agents and the keys, and say what to do about what is wrong.

    Exit code 1 where something is; warnings alone give 0.
    """
    from ..doctor import examine
    from ..terminal import Progress

    with Progress() as report:
        report("looking…")
        findings = examine(this_machine())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            sign, colour = _SIGNS[finding.grade]
            click.echo(f"{click.style(sign, fg=colour) if coloured else sign} {finding.check:<{width}}  {finding.fact}")
            if finding.remedy:
                click.echo(f"  {'':<{width}}  → {finding.remedy}")
    if any(finding.grade == "failure" for finding in findings):
        raise click.exceptions.Exit(1)
