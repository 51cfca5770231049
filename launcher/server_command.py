"""Commands of the server's side: the process becomes `python -m omlx.server`, so that nothing is imported here."""

from __future__ import annotations

import os
import sys

import click


def server_command(name: str, short_help: str) -> click.Command:
    """A command of that name, whose arguments and whose help are the server's own."""

    def become(arguments: tuple[str, ...]) -> None:
        os.execv(sys.executable, [sys.executable, "-P", "-m", "omlx.server", name, *arguments])

    return click.Command(
        name,
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
        callback=become,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        short_help=short_help,
    )
