"""The files in the cache folder that are omlx's. Whatever else lies there is none of ours: the folder may be any."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from .block_file import BlockFile

_LEFT_OVER_SECONDS = 3600.0
_MODEL = re.compile(r"[0-9a-f]{32}")
_RANK = re.compile(r"rank[0-9]+of[0-9]+")
_BLOCK = re.compile(r"[0-9a-f]{64}\.(?:.+\.)?safetensors")
"""Of this make or another: a block's name has always come first."""
_PART = re.compile(r"[0-9a-f]{64}\.([0-9]+)\.part")


@dataclass(frozen=True, slots=True)
class OnDisk:
    files: list[BlockFile]
    """Every block's, the least recently used first."""
    foreign_bytes: int
    """Of files that other engines are writing; each has its whole size from the start."""


def part_name(block: str) -> str:
    """What the file of this block is named while this process writes it."""
    return f"{block}.{os.getpid()}.part"


def own_files(root: Path, folder: Path | None = None) -> Iterator[os.DirEntry[str]]:
    """Blocks, whole and unfinished, of every model under `root`, one process's and a group's ranks', and of `folder`.
    Another owner's folders are passed over, unless it is `folder` that cannot be listed: that raises `OSError`, as
    `root` does."""
    folders = [*_model_folders(_entries(root))]
    for each in dict.fromkeys(folders if folder is None else [*folders, str(folder)]):
        for entry in _entries(each) if each == str(folder) else _entries_if_allowed(each):
            is_named_so = _BLOCK.fullmatch(entry.name) or _PART.fullmatch(entry.name)
            if is_named_so and entry.is_file(follow_symlinks=False):
                yield entry


def scan(root: Path, folder: Path, being_written: Collection[str]) -> OnDisk:
    """Read the folders: names, sizes, times. Removes what ended writers left unfinished; `being_written` are the paths
    of the files of ours that are not."""
    found: list[tuple[float, BlockFile]] = []
    foreign_bytes = 0
    for entry in own_files(root, folder):
        part = _PART.fullmatch(entry.name)
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            if part is None:
                continue
            return scan(root, folder, being_written)  # it got its name just now, and is counted under neither
        if part is None:
            found.append((status.st_mtime, BlockFile.parse(Path(entry.path), status.st_size)))
        elif entry.path not in being_written:
            is_old = time.time() - status.st_mtime > _LEFT_OVER_SECONDS
            if not ((is_old or not _is_running(int(part[1]))) and removed(entry.path)):
                foreign_bytes += status.st_size
    return OnDisk([file for _, file in sorted(found, key=lambda item: item[0])], foreign_bytes)


def removed(path: str | Path) -> bool:
    """Remove the file; whether there is none any more."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def _model_folders(entries: list[os.DirEntry[str]]) -> Iterator[str]:
    for entry in entries:
        if _MODEL.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield entry.path
        elif _RANK.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            inner = _entries_if_allowed(entry.path)
            yield from _model_folders([each for each in inner if not _RANK.fullmatch(each.name)])


def _entries_if_allowed(folder: str) -> list[os.DirEntry[str]]:
    try:
        return _entries(folder)
    except (FileNotFoundError, PermissionError):
        return []


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _is_running(pid: int) -> bool:
    """On this machine; True where that cannot be told."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        return True
    return True
