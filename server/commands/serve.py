"""`omlx serve`: every setting as an option, for this run only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from ..errors import SettingsError
from ..requests import Json
from ..settings.keys import Key, keys
from ..settings.layers import flag_of, layered
from ..settings.loading import load_document
from ..settings.serve import ServeSettings, omlx_home, settings_file

_FOLDERS = ("server.model_dirs", "cache.folder")


class _Setting(click.ParamType):
    """A text that the setting takes; anything else is wrong usage."""

    name = "value"

    def __init__(self, key: Key) -> None:
        self._key = key

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self._key.parse(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)
        return value


def _setting_options(decorated: Callable[..., None]) -> Callable[..., None]:
    """An option for every setting that is no model's."""
    for key in reversed(keys()):
        metavar = "FOLDER" if key.name in _FOLDERS else "VALUE"
        parameter = key.name.replace(".", "_")
        option = click.option(
            flag_of(key), parameter, type=_Setting(key), metavar=metavar, multiple=key.is_list, help=_help(key)
        )
        decorated = option(decorated)
    return decorated


def _help(key: Key) -> str:
    given_twice = "; may be given more than once" if key.is_list else ""
    default = f"  [default: {key.default}]" if key.default not in (None, []) else ""
    return f"{key.description}{given_twice}.{default}"


@click.command("serve")
@_setting_options
@click.option("--model", default=None, help="Load this model at once.  [default: the only one]")
@click.option("--quiet", is_flag=True, help="Show warnings only; all of the log is in ~/.omlx/logs/server.log.")
def command(model: str | None, quiet: bool, **options: str | tuple[str, ...] | None) -> None:
    """Serve models over the OpenAI and Anthropic protocols.

    An option holds for this run only; `omlx config set` writes a setting for good, and `omlx config show --origin`
    says where each is from. Where OMLX_API_KEY is set, clients must send that key. OMLX_HOME moves ~/.omlx.
    """
    from ..serving import serve as run

    home = omlx_home(os.environ)
    document, warnings = load_document(settings_file(home))
    configuration = layered(document, os.environ, _flags(options))
    for warning in (*warnings, *configuration.warnings):
        click.echo(f"omlx: {warning}", err=True)
    run(ServeSettings.of(configuration, home, os.environ.get("OMLX_API_KEY", "")), model, quiet=quiet)


def _flags(options: Mapping[str, str | tuple[str, ...] | None]) -> dict[str, Json]:
    """The options given, by the setting's name. Folders are the caller's, not omlx's."""
    given: dict[str, Json] = {}
    for key in keys():
        option = options[key.name.replace(".", "_")]
        if option:
            texts = [option] if isinstance(option, str) else list(option)
            if key.name in _FOLDERS:
                texts = [str(Path(text).expanduser().absolute()) for text in texts]
            given[key.name] = [*texts] if key.is_list else texts[0]
    return given
