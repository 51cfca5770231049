"""`omlx list`: the models on this machine's disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from ..errors import ModelError
from ..model_places import model_dir_option, served_besides
from ..models.catalog import SERVED, ModelEntry, model_folders, read_entry
from ..models.hub import read_source, stopped_downloads
from ..settings.now import settings_now
from ..terminal import columns, json_option, print_json, size_text


@dataclass(frozen=True, slots=True)
class _Found:
    """`entry` is None where the folder cannot be used, and `problem` says why. `is_besides`: only the running server
    looks there."""

    id: str
    path: Path
    entry: ModelEntry | None
    problem: str = ""
    is_besides: bool = False


@click.command("list")
@model_dir_option
@json_option
def command(given_dirs: tuple[Path, ...], as_json: bool) -> None:
    """List the models in the model folders, those that cannot be used with the reason, and stopped downloads.

    A running server's folders are looked in too; what only that server knows of is marked.
    """
    folders = given_dirs or settings_now(os.environ).model_dirs
    besides = () if given_dirs else served_besides()
    logging.disable()  # what a server would log of a folder stands in the table
    try:
        found = list(_found(folders, besides))
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        print_json([_described(each) for each in found])
    elif found:
        rows = [_row(each) for each in found]
        click.echo(columns([("MODEL", "SIZE", "WINDOW", "WEIGHTS", "ARCHITECTURE", ""), *rows]))
    else:
        places = ", ".join(map(str, folders))
        click.echo(f"No models in {places}. `omlx pull REPO` downloads one, `omlx import FILE.gguf` takes one over.")


def _found(folders: tuple[Path, ...], besides: tuple[Path, ...]) -> Iterator[_Found]:
    known = dict(model_folders(folders))
    for model_id, path in model_folders((*folders, *besides)):
        is_besides = model_id not in known
        try:
            yield _Found(model_id, path, read_entry(path, model_id), is_besides=is_besides)
        except ModelError as error:
            yield _Found(model_id, path, None, str(error).removeprefix(f"{path}: "), is_besides)
    for request, path in stopped_downloads(folders[0]):
        yield _Found(request.model_id, path, None, f"a stopped download; `{request.command}` goes on")


def _row(found: _Found) -> tuple[str, ...]:
    entry = found.entry
    if entry is None:
        return (found.id, "-", "-", "-", "-", found.problem)
    notes = [] if entry.kind in SERVED else [f"{entry.kind}: not served"]
    if found.is_besides:
        notes.append(f"of the running server, in {found.path}")
    return (
        *(found.id, size_text(entry.size_bytes), f"{entry.context_window:,}"),
        *(entry.quantization or "floats", entry.architecture, "; ".join(notes)),
    )


def _described(found: _Found) -> dict[str, object]:
    entry, source = found.entry, read_source(found.path)
    described: dict[str, object] = {"id": found.id, "path": str(found.path), "problem": found.problem or None}
    described["of_running_server"] = found.is_besides
    if source is not None:
        described |= {"repo": source.repo, "commit": source.commit}
    if entry is None:
        return described
    return described | {
        "kind": entry.kind,
        "architecture": entry.architecture,
        "size_bytes": entry.size_bytes,
        "context_window": entry.context_window,
        "quantization": entry.quantization,
    }
