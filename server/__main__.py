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
from .terminal import print_json

_REFUSED = 1
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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = _asks_for_json(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if not ctx.obj:
                raise
            _print_refusal(error.format_message(), error.exit_code)
            ctx.exit(error.exit_code)
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
        if _asks_for_json(sys.argv[1:]):
            _print_refusal(str(error), _REFUSED)
        else:
            click.echo(f"omlx: {error}", err=True)
        sys.exit(_REFUSED)


def _asks_for_json(args: list[str]) -> bool:
    """Looks at the words: an option that is unknown keeps a command from being parsed at all."""
    return "--json" in (args[: args.index("--")] if "--" in args else args)


def _print_refusal(message: str, exit_code: int) -> None:
    """As the launcher's own commands do it, on the standard output: who asked for JSON may read nothing else."""
    print_json({"error": {"message": message, "exit_code": exit_code}})


if __name__ == "__main__":
    main()
