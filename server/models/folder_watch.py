"""Models that come and go while the server runs, by whosever hand: their folders are looked at every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic
from typing import Generic

from ..errors import ModelError, UnsupportedModel
from .catalog import SERVED, discover, model_folders, read_entry
from .hub import stopped_downloads
from .lease import E
from .pool import ModelPool

_FOLLOW_SECONDS = 2.0
_ASKED_SECONDS = 2.0
"""Names that no model has bring about a look no more often."""


@dataclass(frozen=True, slots=True)
class _Other:
    """A folder whose model is not served: `problem` says why, None where nothing is in the way any more. `files` are
    its files' names, sizes and times: it is read again once they are others."""

    files: tuple[tuple[str, int, int], ...]
    problem: ModelError | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """`models` are every model's folder and when its config was written, `others` those that are not served."""

    models: list[tuple[str, Path, float]]
    others: dict[str, _Other]


class FolderWatch(Generic[E]):
    """Has the pool serve what is in `folders` at the time. `real_name` gives the model that an alias stands for."""

    def __init__(
        self,
        pool: ModelPool[E],
        folders: Sequence[Path],
        real_name: Callable[[str], str] = str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._pool = pool
        self._folders = folders
        self._real_name = real_name
        self._clock = clock
        self._looking = asyncio.Lock()
        self._seen: _Seen | None = None
        self._downloads: dict[str, str] = {}
        self._asked_at = -inf

    async def follow(self) -> None:
        """Look from time to time, until this is cancelled."""
        while True:
            await asyncio.sleep(_FOLLOW_SECONDS)
            async with self._looking:
                await self._look()

    async def look(self) -> None:
        """Look now. At the first time only what can be served and is not yet is news."""
        async with self._looking:
            await self._look()

    async def find(self, name: str) -> None:
        """Look at once for a model that is asked for and not served, unless somebody was answered so just now.

        Raises `ModelError` with the reason that a model of this name or alias, which is there, cannot be used.
        """
        if self._pool.knows(name):
            return
        async with self._looking:
            if self._clock() - self._asked_at >= _ASKED_SECONDS:
                await self._look()
                self._downloads = await asyncio.to_thread(_downloads, self._folders[:1])
                self._asked_at = self._clock()
        if self._pool.knows(name):
            return
        model_id = self._real_name(name)
        other = self._seen.others.get(model_id) if self._seen else None
        if other is not None and other.problem is not None:
            raise _copy(other.problem)
        if model_id in self._downloads:
            raise ModelError(self._downloads[model_id])

    async def _look(self) -> None:
        """A folder that goes away meanwhile is left to the next look."""
        before, served = self._seen, {entry.id for entry in self._pool.entries}
        with contextlib.suppress(OSError):
            now = await asyncio.to_thread(_look_at, self._folders, served, before.others if before else {})
            self._seen = now
            is_usable = any(
                other.problem is None and not (before and before.others.get(model_id) is other)
                for model_id, other in now.others.items()
            )
            is_changed = before is not None and before.models != now.models
            idle = (entry for entry in self._pool.entries if entry.id not in self._pool.engines)
            is_gone = any(not entry.changed_at for entry in idle)
            if is_usable or is_changed or is_gone:
                await rescan(self._pool, self._folders)


async def rescan(pool: ModelPool[E], folders: Sequence[Path]) -> None:
    """The models anew from their folders."""
    entries = await asyncio.to_thread(discover, folders)
    pool.replace_entries([entry.within(pool.memory) for entry in entries if entry.kind in SERVED])


def _look_at(folders: Sequence[Path], served: Collection[str], before: Mapping[str, _Other]) -> _Seen:
    """For a thread. Raises `OSError` where a folder goes away just now."""
    there = model_folders(folders, quiet=True)
    models = [(name, path, (path / "config.json").stat().st_mtime) for name, path in there]
    return _Seen(models, {name: _read(name, path, before.get(name)) for name, path in there if name not in served})


def _read(name: str, path: Path, before: _Other | None) -> _Other:
    with os.scandir(path) as entries:
        stats = sorted((entry.name, entry.stat()) for entry in entries)
    files = tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
    return before if before is not None and before.files == files else _Other(files, _problem(name, path))


def _problem(name: str, path: Path) -> ModelError | None:
    try:
        entry = read_entry(path, name)
    except ModelError as error:
        return _copy(error)  # without its traceback, which would hold what was read
    return None if entry.kind in SERVED else UnsupportedModel(f"{path}: is of kind {entry.kind}, which is not served")


def _copy(error: ModelError) -> ModelError:
    return type(error)(*error.args)


def _downloads(folders: Sequence[Path]) -> dict[str, str]:
    """What is said of each model whose download stands in these folders, by its id."""
    return {
        request.model_id: f"{request.model_id} is not all here: its download goes on, or was stopped, and "
        f"`{request.command}` goes on with it"
        for folder in folders
        for request, _ in stopped_downloads(folder)
    }
