"""`omlx chat`: parse, call, print."""

from __future__ import annotations

import os
import sys

import click

from ..cli_options import is_terminal, json_option, this_machine, url_option
from ..completing import complete_model


@click.command("chat", short_help="Talk to a model.")
@click.argument("prompt", required=False)
@url_option
@click.option(
    "--model", metavar="MODEL", shell_complete=complete_model, help="The model to talk to.  [default: the only one]"
)
@click.option("--system", help="What it is told first.")
@json_option
def command(prompt: str | None, url: str | None, model: str | None, system: str | None, as_json: bool) -> None:
    """Ask PROMPT, or what is piped in, and print the answer; without one, talk until Ctrl-D.

    Ctrl-C stops an answer; /new begins anew. What the model thinks is shown dimmed.
    """
    from ..probing import chosen_model
    from ..talking import Screen, Talk, answer_json, converse

    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
    if not prompt and (as_json or not is_terminal()):
        raise click.UsageError("give a PROMPT, or pipe one in")
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    with chosen_model(this_machine(), url, model, "chat") as (http, _, chosen):
        talk = Talk(http, chosen.name, system)
        if not prompt:
            converse(talk, Screen(sys.stdout, coloured=coloured))
        elif as_json:
            click.echo(answer_json(chosen.name, talk.ask(prompt, lambda _text, _reasoning: None)))
        else:
            screen = Screen(sys.stdout, coloured=coloured)
            talk.ask(prompt, screen.show)
            screen.end()
