"""`python -m omlx.server`: the commands that need the server's side. `omlx` passes them on.

Each is a module of the folder `commands`, imported when it is asked for.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module

import click

from . import commands as folder
from .errors import OmlxError

_INTERRUPTED = 130


class _Commands(click.Group):
    """`commands/NAME.py` holds NAME as `command`, `import_.py` the one named `import`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(module.name.rstrip("_") for module in pkgutil.iter_modules(folder.__path__) if not module.ispkg)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = "import_" if cmd_name == "import" else cmd_name
        return import_module(f"{folder.__name__}.{module}").command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo(err=True)  # what is said next begins on a line of its own
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """omlx: serve models you run yourself."""


def main() -> None:
    try:
        commands(prog_name="omlx")
    except OmlxError as error:
        click.echo(f"omlx: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
