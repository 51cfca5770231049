"""`omlx serve`: every setting as an option, for this run only."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click

from ..errors import SettingsError
from ..fast_deaths import FastDeaths, is_started_by_system
from ..model_places import complete_model
from ..models.split import Split
from ..requests import Json
from ..server_log import start_logging
from ..settings.keys import Key, keys
from ..settings.layers import flag_of, layered
from ..settings.loading import load_document
from ..settings.own_key import own_key
from ..settings.serve import ServeSettings, omlx_home, settings_file
from ..stop_signals import Stopped, StopSignals

logger = logging.getLogger(__name__)

_UNITS = (("GiB", 30), ("MiB", 20), ("B", 0))
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
        parameter = key.name.replace(".", "_")
        option = click.option(
            flag_of(key), parameter, type=_Setting(key), metavar=_kind(key), multiple=key.is_list, help=_help(key)
        )
        decorated = option(decorated)
    return decorated


def _kind(key: Key) -> str:
    """What the option takes, in a word."""
    if key.name in _FOLDERS:
        return "FOLDER"
    if key.name.endswith("_bytes"):
        return "SIZE"
    kinds = {bool: "true|false", int: "INTEGER", float: "SECONDS"}
    return kinds.get(type(key.default), "TEXT")


def _help(key: Key) -> str:
    given_twice = "; may be given more than once" if key.is_list else ""
    default = f"  [default: {_shown(key)}]" if key.default not in (None, []) else ""
    return f"{key.description}{given_twice}.{default}"


def _shown(key: Key) -> str:
    """A default as it would be typed; a SIZE may be a number of bytes, or a text such as 50GB."""
    if key.name.endswith("_bytes") and isinstance(key.default, int):
        return next(f"{key.default >> shift}{unit}" for unit, shift in _UNITS if key.default % (1 << shift) == 0)
    return str(key.default).lower() if isinstance(key.default, bool) else str(key.default)


@click.command("serve")
@_setting_options
@click.option(
    "--model",
    default=None,
    metavar="MODEL",
    shell_complete=complete_model,
    help="Load this model at once; a group takes it from the hub where it is not here.  [default: the only one]",
)
@click.option(
    "--draft-model",
    default=None,
    metavar="MODEL",
    shell_complete=complete_model,
    help="With --model: a smaller model with the same tokens that drafts.",
)
@click.option("--distributed", is_flag=True, help="Be one of several machines that run one model, under mlx.launch.")
@click.option(
    "--split",
    type=click.Choice([split.value for split in Split]),
    default=Split.AUTO.value,
    show_default=True,
    help="With --distributed: a slice of every layer each, or some of the layers each. auto: what the model can.",
)
@click.option("--quiet", is_flag=True, help="Show warnings only; all of the log is in ~/.omlx/logs/server.log.")
@click.option("--service", is_flag=True, hidden=True, help="Run as launchd or systemd start it.")
def command(
    model: str | None,
    draft_model: str | None,
    distributed: bool,
    split: str,
    quiet: bool,
    service: bool,
    **options: str | tuple[str, ...] | None,
) -> None:
    """Serve models over the OpenAI and Anthropic protocols.

    An option holds for this run only; `omlx config set` writes a setting for good, and `omlx config show --origin`
    says where each is from. Where OMLX_API_KEY is set, clients must send that key. OMLX_HOME moves ~/.omlx.
    """
    stop_signals = StopSignals()
    stop_signals.catch()
    if draft_model is not None and (model is None or distributed):
        raise click.UsageError("--draft-model goes with --model, on one machine; models.NAME.draft_model is for good")
    home = omlx_home(os.environ)

    def run(quiet: bool) -> None:
        with contextlib.suppress(Stopped):
            _run(home, model, options, quiet, Split(split) if distributed else None, draft_model, stop_signals)

    try:
        if service or is_started_by_system(os.environ, os.getpid(), os.getppid()):
            _run_as_service(home, lambda: run(quiet=True))
        else:
            run(quiet)
    finally:
        stop_signals.ignore()


def _run(
    home: Path,
    model: str | None,
    options: Mapping[str, str | tuple[str, ...] | None],
    quiet: bool,
    split: Split | None,
    draft_model: str | None,
    stop_signals: StopSignals,
) -> None:
    from ..serving import serve as run

    document, warnings = load_document(settings_file(home))
    found = layered(document, os.environ, _flags(options))
    configuration = replace(found, warnings=(*warnings, *found.warnings))  # they are for the log
    serving = ServeSettings.of(configuration, home, own_key(os.environ))
    run(serving, model, quiet=quiet, split=split, draft_model=draft_model, stop_signals=stop_signals)


def _run_as_service(home: Path, run: Callable[[], None]) -> None:
    """Run, and remember how it ended; one that kept dying ends at once and well, so that it stays ended."""
    deaths = FastDeaths(home / "run" / "service_starts.json", time.time)
    verdict = deaths.verdict()
    if verdict is not None:
        start_logging(home / "logs", quiet=True)
        logger.error("%s", verdict)
        return
    deaths.began()
    try:
        run()
    except Exception as error:
        deaths.died(str(error) or type(error).__name__)
        raise
    deaths.ended_well()


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
