"""A disk whose calls fail: all that the tier makes, on folders, files and what it reads of them."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_CALLS: list[tuple[Any, str]] = [
    *((os, name) for name in ("open", "write", "pread", "pwrite", "ftruncate", "unlink", "utime", "mkdir", "rename")),
    (fcntl, "flock"),
    (shutil, "disk_usage"),
]
KINDS = {*(name for _, name in _CALLS), "scandir", "is_dir", "is_file", "stat", "open to read", "read"}
"""What can be made to fail."""


class Faults:
    """The `at`-th call of the system fails, and with `forever` all that follow; none where `at` is 0. `calls` are the
    kinds of all, `failed` of those that did."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, at: int, code: int, forever: bool) -> None:
        self._folder, self._at, self._code, self._forever = str(folder), at, code, forever
        self._main = threading.current_thread()
        self.calls: list[str] = []
        self.failed: set[str] = set()
        for owner, name in _CALLS:
            patch.setattr(owner, name, self._failing(name, getattr(owner, name)))
        patch.setattr(os, "scandir", self._scandir(os.scandir))
        patch.setattr(io, "open", self._open(io.open))  # what Path.open calls

    def meet(self, kind: str) -> None:
        """A call of this kind; raises `OSError` where it is to fail."""
        if threading.current_thread() is not self._main and not threading.current_thread().name.startswith("cache-"):
            return
        self.calls.append(kind)
        if self._at and (len(self.calls) == self._at or (self._forever and len(self.calls) > self._at)):
            self.failed.add(kind)
            raise OSError(self._code, os.strerror(self._code))

    def _failing(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.meet(kind)
            return real(*arguments, **options)

        return call

    def _scandir(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def scandir(path: Any) -> Iterator[list[_Entry]]:
            self.meet("scandir")
            with real(path) as entries:
                yield [_Entry(entry, self) for entry in entries]

        return scandir

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def open_file(path: Any, *arguments: Any, **options: Any) -> Any:
            if not str(path).startswith(self._folder):
                return real(path, *arguments, **options)
            self.meet("open to read")
            return _File(real(path, *arguments, **options), self)

        return open_file


class _Entry:
    def __init__(self, entry: os.DirEntry[str], faults: Faults) -> None:
        self.name, self.path = entry.name, entry.path
        self._entry, self._faults = entry, faults

    def is_dir(self, **options: Any) -> bool:
        self._faults.meet("is_dir")
        return self._entry.is_dir(**options)

    def is_file(self, **options: Any) -> bool:
        self._faults.meet("is_file")
        return self._entry.is_file(**options)

    def stat(self, **options: Any) -> os.stat_result:
        self._faults.meet("stat")
        return self._entry.stat(**options)


class _File:
    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, *arguments: Any) -> Any:
        self._faults.meet("read")
        return self._file.read(*arguments)

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, *arguments: Any) -> Any:
        self._faults.meet("read")
        return self._file.readinto(*arguments)
