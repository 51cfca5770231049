"""A folder that appears whole or not at all, whatever happens on the way.

It is made beside its place under a hidden name with our process id, synced, and renamed. What a killed process
left behind is put right the next time.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError
from ..private_folder import make_private

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?", re.ASCII)
_LEFTOVER = re.compile(r"\.(.+)\.(\d+)\.(importing|replaced)", re.ASCII)


def checked_id(name: str) -> str:
    """`name` where a model may be called so, which becomes a folder's name. Raises `ModelError`."""
    if not _ID.fullmatch(name) or ".." in name:
        rule = "letters, digits, `.`, `_` and `-`, a letter or digit first"
        raise ModelError(f"{name!r} is no model name; write NAME or ORG/NAME, each of {rule}")
    return name


def make_models_folder(folder: Path) -> None:
    """Where there is none yet it is for its owner alone, and so is omlx's home above it. Raises `ModelError`."""
    try:
        make_private(folder)
    except OSError as error:
        why = error.strerror or error
        remedy = "put right what is above it, or choose another with `omlx config set server.model_dirs FOLDER`"
        raise ModelError(f"{folder} cannot be written ({why}); {remedy}") from None


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `target` when the block ends without an error.

    A folder that stood there is replaced. Raises `OSError` where the disk does not let it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_up(target.parent)
    work = target.parent / f".{target.name}.{os.getpid()}.importing"
    work.mkdir()
    try:
        yield work
        _sync_folder(work)
        put_in_place(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def put_in_place(work: Path, target: Path) -> None:
    """Rename `work`, a folder beside it, to `target`; what stood there is moved aside first and removed last."""
    replaced = target.parent / f".{target.name}.{os.getpid()}.replaced"
    if target.exists():
        target.rename(replaced)
    try:
        work.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
    _sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _clear_up(parent: Path) -> None:
    """Remove what dead processes left, and bring back a folder that one had only moved aside."""
    for path in parent.iterdir():
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or is_alive(int(match[2])):
            continue
        place = parent / match[1]
        if match[3] == "replaced" and not place.exists():
            path.rename(place)
        else:
            shutil.rmtree(path, ignore_errors=True)


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
