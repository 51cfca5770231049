"""How many bytes were written to a cache folder: in a day, for the budget, and in all, since disks wear out.

One line in the file `written`, always of one length, so that a process that dies while it writes leaves a whole one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

logger = logging.getLogger(__name__)

_FILE, _LOCK = "written", "lock"
_MAX_BYTES = 100


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes: `on_day` those of the ISO date `day`, `in_all` since the folder's first block."""

    day: str = ""
    on_day: int = 0
    in_all: int = 0

    def today(self, today: date) -> int:
        return self.on_day if self.day == today.isoformat() else 0


def read_written(root: Path) -> Written:
    """What the engines that use the folder `root` have written to it; nothing where that cannot be read."""
    try:
        return _parsed((root / _FILE).read_bytes())
    except OSError:
        return Written()


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep the other engines from making room, and from taking it, meanwhile. Raises `OSError`."""
    descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def spend(root: Path, nbytes: int, today: date) -> None:
    """Count `nbytes`. Raises `OSError`: what the other engines do not hear of, they make no room for."""
    descriptor = os.open(root / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # each loaded model's engine writes here
        before = _parsed(os.pread(descriptor, _MAX_BYTES, 0))
        on_day = before.today(today) + nbytes
        os.pwrite(descriptor, f"{today.isoformat()} {on_day:020} {before.in_all + nbytes:020}\n".encode(), 0)
    finally:
        os.close(descriptor)


class DailyBudget:
    """Bytes that may be written to `root` in a day, all engines together. Once it did not allow a block, smaller ones
    wait for the next day too."""

    def __init__(self, root: Path, max_bytes: int, today: Callable[[], date]) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._today = today
        self._used_up: date | None = None

    @property
    def trouble(self) -> str:
        """What to tell the user when it is used up; "" where it is not."""
        if self._used_up is None or self._used_up != self._today():
            return ""
        may_be = f"the {self._max_bytes >> 20} MiB that may be written to {self._root} in a day"
        return f"{may_be} are used up; cache.ssd_bytes_per_day allows more"

    def allows(self, nbytes: int) -> bool:
        """Whether so much may be written today. Keep others from spending until it is spent."""
        today = self._today()
        if read_written(self._root).today(today) + nbytes <= self._max_bytes:
            return True
        self._used_up = today
        logger.warning("prompt prefixes are not kept on disk until tomorrow: %s", self.trouble)
        return False

    def spend(self, nbytes: int) -> None:
        spend(self._root, nbytes, self._today())


def _parsed(content: bytes) -> Written:
    """The first line, nothing where it is of another make. Earlier ones had the day alone."""
    try:
        day, on_day, *in_all = content.partition(b"\n")[0].decode().split()
        return Written(day, int(on_day), int(in_all[0] if in_all else on_day))
    except ValueError:
        return Written()
