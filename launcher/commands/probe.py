"""`omlx probe`: parse, call, print."""

from __future__ import annotations

import sys

import click

from ..cli_options import json_option, this_machine, url_option
from ..completing import complete_model


@click.command("probe", short_help="Ask an endpoint seven questions: speed and sense.")
@url_option
@click.option(
    "--model", metavar="MODEL", shell_complete=complete_model, help="The model to ask.  [default: the only one]"
)
@json_option
def command(url: str | None, model: str | None, as_json: bool) -> None:
    """Ask an OpenAI-compatible endpoint seven questions and print how fast and how well it answers.

    Exit codes: 0 all right, 3 an answer was wrong, 4 the endpoint is broken.
    """
    from .. import showing
    from ..probe import ProbeResult, exit_code
    from ..probing import probe_server
    from ..terminal import Progress

    heads = iter([showing.probe_head()])

    def tell(result: ProbeResult) -> None:
        report.clear()
        if not as_json:
            for line in (*heads, showing.probe_row(result)):
                click.echo(line)

    with Progress() as report:
        probed = probe_server(this_machine(), url, model, report, tell)
    if as_json:
        click.echo(showing.probe_json(probed))
    sys.exit(exit_code(probed.results))
