"""The `omlx` command. Each of its commands is a module of the folder `commands`, imported when it is asked for."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import NoReturn

import click

from . import commands as folder
from .errors import INTERRUPTED, LauncherError


class _Folder(MutableMapping[str, click.Command]):
    """The commands by name: `commands/NAME.py` holds NAME as `command`, `import_.py` the one named `import`."""

    def __init__(self) -> None:
        modules = (module.name for module in pkgutil.iter_modules(folder.__path__))
        self._modules = {name.removesuffix("_").replace("_", "-"): name for name in modules}
        self._imported: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._imported:
            self._imported[name] = import_module(f"{folder.__name__}.{self._modules[name]}").command
        return self._imported[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._modules[name], self._imported[name] = name, command

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


class _Commands(click.Group):
    """Prints the errors raised on purpose, and ends with their code; with that of an interruption after Ctrl-C.

    For who asked for JSON, and may read nothing else, they are JSON on the standard output.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = args[: args.index("--")] if "--" in args else args
        ctx.obj = "--json" in words  # an option that is unknown keeps the command from being parsed at all
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except LauncherError as error:
            _refuse(ctx, str(error), error.exit_code)
        except click.ClickException as error:
            if not ctx.obj:
                raise
            _refuse(ctx, error.format_message(), error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo(err=True)  # what is said next begins on a line of its own
            ctx.exit(INTERRUPTED)


def _refuse(ctx: click.Context, message: str, exit_code: int) -> NoReturn:
    if ctx.obj:
        click.echo(json.dumps({"error": {"message": message, "exit_code": exit_code}}, ensure_ascii=False))
    else:
        click.echo(f"omlx: {message}", err=True)
    ctx.exit(exit_code)


@click.group(cls=_Commands, commands=_Folder(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="omlx", message="omlx %(version)s")
def commands() -> None:
    """Coding agents on models you run yourself.

    Exit codes: 0 done, 1 refused, 2 wrong usage, 3 a probe's answer was wrong, 4 the server is down or broken,
    130 interrupted.
    """


def main() -> None:
    """The console script."""
    commands(prog_name="omlx")
