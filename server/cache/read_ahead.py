"""Files read before they are wanted, so that whoever wants them need not wait for the disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class ReadAhead:
    """Reads in a thread of its own what `begin` names, in that order. One thread calls.

    `read` is given a path; what it raises, `take` raises. No more than `max_bytes` are held: what nobody takes goes
    for what is begun later, and what has no room is read when it is taken.
    """

    def __init__(self, read: Callable[[str], bytes], max_bytes: int) -> None:
        self._read = read
        self._max_bytes = max_bytes
        self._reader = ThreadPoolExecutor(1, "cache-reader")
        self._begun: dict[str, tuple[int, Future[bytes]]] = {}
        """Sizes and contents by path, the oldest first."""

    def begin(self, path: str, nbytes: int) -> None:
        if path in self._begun:
            return
        held = sum(size for size, _ in self._begun.values())
        for old, (size, reading) in list(self._begun.items()):
            if held + nbytes > self._max_bytes and reading.done():
                del self._begun[old]
                held -= size
        if held + nbytes <= self._max_bytes:
            self._begun[path] = nbytes, self._reader.submit(self._read, path)

    def is_under_way(self, path: str) -> bool:
        return path in self._begun and not self._begun[path][1].done()

    def take(self, path: str) -> bytes:
        """The contents, waited for."""
        _, reading = self._begun.pop(path, (0, None))
        return self._read(path) if reading is None else reading.result()

    def close(self) -> None:
        self._begun.clear()
        self._reader.shutdown(cancel_futures=True)
