"""The prompt prefixes that lie on the disk: how much they take, and removing them and nothing else there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError
from .folder_trouble import folder_trouble
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


def clear_disk(cache_folder: Path, openings_folder: Path | None) -> Files:
    """Remove every cached prefix, and what agents opened with. A running server may go on. Raises `SettingsError`."""
    try:
        cached = [*_cache_files(cache_folder)]
    except OSError as error:
        raise SettingsError(folder_trouble(cache_folder, error)) from None
    count = size = 0
    for file in [*cached, *_opening_files(openings_folder)]:
        try:
            num_bytes = file.stat().st_size
            file.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SettingsError(
                f"{file} cannot be removed: {error.strerror or error}; correct its folder's owner and mode"
            ) from error
        count, size = count + 1, size + num_bytes
    return Files(count, size)


def _cache_files(root: Path) -> Iterator[Path]:
    """None where there is no folder yet. Raises `OSError` where it cannot be listed, or is none."""
    with contextlib.suppress(FileNotFoundError):
        yield from map(Path, own_files(root))


def _opening_files(root: Path | None) -> Iterator[Path]:
    files = iter(()) if root is None else root.rglob("*")
    return (file for file in files if file.is_file() and not file.is_symlink())
