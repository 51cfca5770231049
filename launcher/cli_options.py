"""Options that several commands share, and what their functions start from."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .completing import complete_model

if TYPE_CHECKING:
    from .launch import FittingPicker
    from .machine import Machine
    from .review import Change

_URL_HELP = "The server's address.  [default: OMLX_URL, the running server, what the settings say]"

url_option = click.option("--url", help=_URL_HELP)
json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
yes_option = click.option("--yes", is_flag=True, help="Ask nothing: agree, and fail where a choice is open.")
force_option = click.option("--force", is_flag=True, help="Go on though the window is too small for the agent.")


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """--model, and a model for each tier; the command gets them as one `wanted`."""

    @functools.wraps(command)
    def with_wanted(model: str | None, opus: str | None, sonnet: str | None, haiku: str | None, **others: Any) -> None:
        from .selection import Wanted

        command(wanted=Wanted(model, opus, sonnet, haiku), **others)

    for option in (
        click.option(
            "--haiku",
            metavar="MODEL",
            shell_complete=complete_model,
            help="The model for its smallest tier.  [default: --model]",
        ),
        click.option(
            "--sonnet",
            metavar="MODEL",
            shell_complete=complete_model,
            help="The model for its middle tier.  [default: --model]",
        ),
        click.option(
            "--opus",
            metavar="MODEL",
            shell_complete=complete_model,
            help="The model for the agent's largest tier.  [default: --model]",
        ),
        click.option(
            "--model",
            metavar="MODEL",
            shell_complete=complete_model,
            help="The model to work with.  [default: the only one, or the last one]",
        ),
    ):
        option(with_wanted)
    return with_wanted


def this_machine() -> Machine:
    from .machine import Machine

    return Machine(os.environ, Path.home(), Path.cwd())


def is_terminal() -> bool:
    """Whether somebody is there to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def picker(yes: bool) -> FittingPicker | None:
    from .terminal import pick_model

    return None if yes or not is_terminal() else pick_model


def check_json(as_json: bool, *, yes: bool, dry_run: bool) -> None:
    """A question among JSON would be read by a program."""
    if as_json and not yes and not dry_run:
        raise click.UsageError("--json goes with --yes or --dry-run")


def show_changes(changes: Iterable[Change]) -> None:
    """As a diff, secrets masked; in colour where somebody looks."""
    from .review import diff

    click.echo(diff(changes, color=sys.stdout.isatty() and "NO_COLOR" not in os.environ), nl=False)


def agree(question: str, yes: bool) -> None:
    """Raises LauncherError where the user declines, or nobody is there to ask."""
    from .errors import LauncherError
    from .review import confirm

    if yes:
        return
    if not is_terminal():
        raise LauncherError("nobody is there to agree to these changes; give --yes to make them")
    if not confirm(question, input):
        raise LauncherError("nothing was written")
