"""Files read before they are wanted, so that whoever wants them need not wait for the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

_READERS = 4
"""A checksum keeps one of them busy for as long as a good disk needs for several files."""


class ReadAhead:
    """Reads in threads of its own what `begin` names, in that order, some at a time. One thread calls.

    `read` is given a path; what it raises, `take` raises. What failed ahead is read again: its error may be of a file
    that has been replaced since. No more than `max_bytes` are held: what nobody takes goes for what is begun later,
    and what has no room is read when it is taken.
    """

    def __init__(self, read: Callable[[str], memoryview], max_bytes: int) -> None:
        self._read = read
        self._max_bytes = max_bytes
        self._readers = ThreadPoolExecutor(_READERS, "cache-reader")
        self._begun: dict[str, tuple[int, Future[memoryview]]] = {}
        """Sizes and contents by path, the oldest first."""

    def begin(self, sizes: Mapping[str, int]) -> None:
        """Read these paths, of so many bytes each, as far as there is room."""
        self._begun = {path: begun for path, begun in self._begun.items() if not _has_failed(begun[1])}
        held = sum(size for size, _ in self._begun.values())
        for path, nbytes in sizes.items():
            if path in self._begun:
                continue
            for old, (size, reading) in list(self._begun.items()):
                if held + nbytes > self._max_bytes and reading.done() and old not in sizes:
                    del self._begun[old]
                    held -= size
            if held + nbytes > self._max_bytes:
                break
            self._begun[path] = nbytes, self._readers.submit(self._read, path)
            held += nbytes

    def is_under_way(self, path: str) -> bool:
        return path in self._begun and not self._begun[path][1].done()

    def take(self, path: str) -> memoryview:
        """The contents, waited for."""
        _, reading = self._begun.pop(path, (0, None))
        if reading is None or reading.exception() is not None:
            return self._read(path)
        return reading.result()

    def close(self) -> None:
        self._begun.clear()
        self._readers.shutdown(cancel_futures=True)


def _has_failed(reading: Future[memoryview]) -> bool:
    return reading.done() and reading.exception() is not None
