"""`omlx cache`: the prompt prefixes on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import click

from ..cache.clearing import clear_disk, files_on_disk
from ..errors import SettingsError
from ..settings.now import settings_now
from ..state_file import running_server
from ..terminal import json_option, print_json, size_text


@click.group("cache")
def command() -> None:
    """The prompt prefixes that outlive the server."""


@command.command("clear", short_help="Remove every cached prefix from the disk.")
@click.option(
    "--cache-folder",
    "given",
    metavar="FOLDER",
    type=click.Path(path_type=Path, resolve_path=True),
    help="Clear this folder, and no openings.  [default: the running server's, else the settings']",
)
@json_option
def clear(given: Path | None, as_json: bool) -> None:
    """Remove every cached prefix, of all models, and what agents opened with, from the disk.

    Nothing else in the folder is touched. A running server goes on, and keeps on disk again what it uses: what is still
    in its memory, and what it computes again.
    """
    settings = settings_now(os.environ)
    server = running_server(settings.state_file)
    served = Path(server.cache_folder) if server is not None and server.cache_folder else None
    folder = given or served or settings.cache_folder
    if given is not None and not (given.exists() or any(parent.is_file() for parent in given.parents)):
        raise SettingsError(
            f"there is no folder {given}; without --cache-folder, {served or settings.cache_folder} is cleared"
        )
    cleared = clear_disk(folder, settings.home / "openings" if given is None else None)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "num_files": cleared.num_files,
                "size_bytes": cleared.size_bytes,
                "server_folder": None if served is None else str(served),
            }
        )
        return
    click.echo(f"Removed {cleared.num_files} files of {folder}, {size_text(cleared.size_bytes)}")
    for note in _left(folder, served, settings.cache_folder):
        click.echo(note)


def _left(folder: Path, served: Path | None, configured: Path) -> Iterator[str]:
    """What is not cleared that the user may have meant, with the command for it."""
    if served is None:
        return
    if served.resolve() != folder.resolve():
        yield f"The running server uses {served}; `omlx cache clear` clears that"
    elif configured.resolve() != folder.resolve():
        there = files_on_disk(configured)
        if there.num_files:
            remedy = f"`omlx cache clear --cache-folder {quote(str(configured))}` removes them"
            yield f"{configured}, the settings' folder, has {there.num_files} files more; {remedy}"
