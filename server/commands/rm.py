"""`omlx rm`: a model's folder goes away."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

import click

from ..errors import ModelError, ModelNotFound
from ..model_places import complete_model, model_dir_option, model_places
from ..models.catalog import model_folders
from ..models.hub import PullRequest, discard
from ..terminal import json_option, print_json, size_text


@click.command("rm")
@click.argument("model", shell_complete=complete_model)
@model_dir_option
@click.option("--yes", is_flag=True, help="Ask nothing.")
@json_option
def command(model: str, given_dirs: tuple[Path, ...], yes: bool, as_json: bool) -> None:
    """Remove MODEL's folder from the disk, or what a stopped download of it left.

    A folder that is only linked to keeps its files: the link goes. A model that a server has loaded works on until
    it is unloaded.
    """
    places = model_places(given_dirs)
    folder = dict(model_folders(places)).get(model)
    if folder is None:
        _discard(model, places, as_json)
        return
    size = 0 if folder.is_symlink() else sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if not yes:
        _agree(f"Remove {folder} ({size_text(size)})?")
    _remove(folder, is_inner="/" in model)
    if as_json:
        print_json({"model": model, "path": str(folder), "size_bytes": size})
    else:
        click.echo(f"Removed {model}, {size_text(size)}")


def _discard(model: str, places: tuple[Path, ...], as_json: bool) -> None:
    if model.count("/") > 1 or not discard(PullRequest(model), places[0]):
        raise ModelNotFound(model, [name for name, _ in model_folders(places)])
    if as_json:
        print_json({"model": model, "path": None, "size_bytes": 0})
    else:
        click.echo(f"Removed the stopped download of {model}")


def _agree(question: str) -> None:
    if not sys.stdin.isatty():
        raise ModelError("nobody is there to agree to the removal; give --yes")
    if not click.confirm(question, err=True):
        raise ModelError("nothing was removed")


def _remove(folder: Path, *, is_inner: bool) -> None:
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except OSError as error:
        raise ModelError(f"{folder} cannot be removed: {error.strerror or error}") from error
    if is_inner:
        with contextlib.suppress(OSError):
            folder.parent.rmdir()  # the organization's folder, where nothing else is in it
