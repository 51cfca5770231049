"""Where the commands that look at models look, and the names that they complete."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from .errors import OmlxError
from .models.catalog import model_folders
from .settings.keys import MODELS, keys, model_keys
from .settings.now import settings_now
from .state_file import running_server

model_dir_option = click.option(
    "--model-dir",
    "given_dirs",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="Look in this folder instead; may be given more than once.  [default: the settings', and a running server's]",
)


def model_places(given: Sequence[Path] = ()) -> tuple[Path, ...]:
    """The folders `given`; without any those of the settings, then what a running server serves besides.

    Raises `SettingsError`.
    """
    return tuple(given) or (*settings_now(os.environ).model_dirs, *served_besides())


def served_besides() -> tuple[Path, ...]:
    """The folders that the running server was given for its run only."""
    settings = settings_now(os.environ)
    server = running_server(settings.state_file)
    served = [Path(folder) for folder in server.model_dirs] if server is not None else []
    return tuple(folder for folder in served if folder not in settings.model_dirs)


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The models' ids that begin so. A shell asks: what is wrong is said when the command runs."""
    del parameter
    given = [Path(folder) for folder in context.params.get("given_dirs") or ()]
    try:
        return [model_id for model_id, _ in model_folders(model_places(given)) if model_id.startswith(incomplete)]
    except OmlxError:
        return []


def complete_setting(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The settings' names that begin so; those of a model once its id is begun."""
    names = [key.name for key in keys()]
    if incomplete.startswith(f"{MODELS}."):
        ids = complete_model(context, parameter, "")
        names = [key.name for model_id in ids for key in model_keys(model_id)]
    else:
        names.append(f"{MODELS}.")
    return [name for name in names if name.startswith(incomplete)]
