"""`omlx cache`: the prompt prefixes on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import click

from ..errors import SettingsError
from ..settings.now import settings_now
from ..terminal import json_option, print_json, size_text

_MODEL_FOLDER = re.compile(r"[0-9a-f]{32}")


@click.group("cache")
def command() -> None:
    """The prompt prefixes that outlive the server."""


@command.command("clear")
@json_option
def clear(as_json: bool) -> None:
    """Remove every cached prefix, and what agents opened with, from the disk.

    A running server goes on, and computes those prompts again; what it holds in memory stays until it ends.
    """
    settings = settings_now(os.environ)
    count = size = 0
    for file in [*_cache_files(settings.cache_folder), *_opening_files(settings.home / "openings")]:
        try:
            num_bytes = file.stat().st_size
            file.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SettingsError(f"{file} cannot be removed: {error.strerror or error}") from error
        count, size = count + 1, size + num_bytes
    if as_json:
        print_json({"folder": str(settings.cache_folder), "num_files": count, "size_bytes": size})
    else:
        click.echo(f"Removed {count} files of {settings.cache_folder}, {size_text(size)}")


def _cache_files(root: Path) -> Iterator[Path]:
    """The tiers' own files alone: the folder may be one that holds other things."""
    for folder in root.iterdir() if root.is_dir() else ():
        if _MODEL_FOLDER.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            yield from (file for file in folder.iterdir() if file.suffix in (".safetensors", ".part"))


def _opening_files(root: Path) -> Iterator[Path]:
    return (file for file in root.rglob("*") if file.is_file() and not file.is_symlink())
