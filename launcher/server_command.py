"""Commands of the server's side: the process becomes `python -m omlx.server`, so that nothing is imported here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import CompletionItem


class _ServerCommand(click.Command):
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        del ctx, incomplete
        _become()  # the shell's question stands in variables, and the server's side answers it


def server_command(name: str, short_help: str, *, holds_signals: bool = False) -> click.Command:
    """A command of that name, whose arguments, completions and help are the server's own. With `holds_signals` SIGINT
    and SIGTERM wait until the server's side has imported what hears them, and lets them through."""

    def become(arguments: Sequence[str]) -> NoReturn:
        if holds_signals:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        _become(name, *arguments)

    return _ServerCommand(
        name,
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
        callback=become,
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
