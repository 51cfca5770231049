"""The prompt prefixes that lie on the disk: how much they take, and removing them and nothing else there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError
from .own_files import own_files


@dataclass(frozen=True, slots=True)
class Files:
    num_files: int
    size_bytes: int


def files_on_disk(cache_folder: Path) -> Files:
    """What all models' prefixes take; those that go meanwhile are not counted. Looks at each file: for a thread."""
    sizes: list[int] = []
    with contextlib.suppress(OSError):
        for file in _cache_files(cache_folder):
            with contextlib.suppress(FileNotFoundError):
                sizes.append(file.stat().st_size)
    return Files(len(sizes), sum(sizes))


def clear_disk(cache_folder: Path, openings_folder: Path) -> Files:
    """Remove every cached prefix, and what agents opened with. A running server may go on. Raises `SettingsError`."""
    count = size = 0
    for file in [*_cache_files(cache_folder), *_opening_files(openings_folder)]:
        try:
            num_bytes = file.stat().st_size
            file.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SettingsError(f"{file} cannot be removed: {error.strerror or error}") from error
        count, size = count + 1, size + num_bytes
    return Files(count, size)


def _cache_files(root: Path) -> Iterator[Path]:
    return map(Path, own_files(root)) if root.is_dir() else iter(())


def _opening_files(root: Path) -> Iterator[Path]:
    return (file for file in root.rglob("*") if file.is_file() and not file.is_symlink())
