"""Removing the prompt prefixes that lie on the disk, and nothing else that lies there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError

_MODEL_FOLDER = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Cleared:
    num_files: int
    size_bytes: int


def clear_disk(cache_folder: Path, openings_folder: Path) -> Cleared:
    """Remove every cached prefix, and what agents opened with. A running server may go on. Raises `SettingsError`."""
    count = size = 0
    for file in [*cache_files(cache_folder), *_opening_files(openings_folder)]:
        try:
            num_bytes = file.stat().st_size
            file.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SettingsError(f"{file} cannot be removed: {error.strerror or error}") from error
        count, size = count + 1, size + num_bytes
    return Cleared(count, size)


def cache_files(root: Path) -> Iterator[Path]:
    """The tiers' own files alone: the folder may be one that holds other things."""
    for folder in root.iterdir() if root.is_dir() else ():
        if _MODEL_FOLDER.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            yield from (file for file in folder.iterdir() if file.suffix in (".safetensors", ".part"))


def _opening_files(root: Path) -> Iterator[Path]:
    return (file for file in root.rglob("*") if file.is_file() and not file.is_symlink())
