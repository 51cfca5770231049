"""`omlx cache`: the prompt prefixes on disk."""

from __future__ import annotations

import os

import click

from ..cache.clearing import clear_disk
from ..settings.now import settings_now
from ..terminal import json_option, print_json, size_text


@click.group("cache")
def command() -> None:
    """The prompt prefixes that outlive the server."""


@command.command("clear", short_help="Remove every cached prefix from the disk.")
@json_option
def clear(as_json: bool) -> None:
    """Remove every cached prefix, and what agents opened with, from the disk.

    A running server goes on, and computes those prompts again; what it holds in memory stays until it ends.
    """
    settings = settings_now(os.environ)
    cleared = clear_disk(settings.cache_folder, settings.home / "openings")
    if as_json:
        print_json(
            {"folder": str(settings.cache_folder), "num_files": cleared.num_files, "size_bytes": cleared.size_bytes}
        )
    else:
        click.echo(f"Removed {cleared.num_files} files of {settings.cache_folder}, {size_text(cleared.size_bytes)}")
