"""Commands of the server's side: the process becomes `python -m omlx.server`, so that nothing is imported here."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click
from click.shell_completion import CompletionItem


class _ServerCommand(click.Command):
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        del ctx, incomplete
        _become()  # the shell's question stands in variables, and the server's side answers it


def server_command(name: str, short_help: str) -> click.Command:
    """A command of that name, whose arguments, completions and help are the server's own."""
    return _ServerCommand(
        name,
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
        callback=lambda arguments: _become(name, *arguments),
        params=[
            click.Argument(
                ["arguments"],
                nargs=-1,
                type=click.UNPROCESSED,
                shell_complete=lambda _context, _argument, _text: _become(),
            )
        ],
        short_help=short_help,
    )


def _become(*arguments: str) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-P", "-m", "omlx.server", *arguments])
