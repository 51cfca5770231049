"""What a process has in memory: as the system counts it, and what of that is in use.

The first grows by steps for a long time where nothing is left behind: malloc keeps what was in use at the highest peak
so far, in each of its threads' arenas, and takes more where the free pieces don't fit. Only the second tells a leak.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from threading import Thread


class _Mallinfo2(ctypes.Structure):
    """The struct of glibc's malloc.h, of its release 2.33 and later."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def own_bytes(pid: int) -> int:
    """What the process has in memory and shares with no file."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def in_use() -> int:
    """Bytes that malloc has given out and not got back: Python's objects too under PYTHONMALLOC=malloc."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return found.uordblks + found.hblkhd


def note_in_use(file: Path, seconds: float = 0.2) -> None:
    """From now on write `in_use` to the file every so many seconds, each time with the time of `monotonic`."""

    def note() -> None:
        with file.open("a", buffering=1) as notes:
            while True:
                print(time.monotonic(), in_use(), file=notes)
                time.sleep(seconds)

    Thread(target=note, name="memory", daemon=True).start()


def noted(file: Path) -> list[tuple[float, int]]:
    """What `note_in_use` wrote."""
    return [(float(at), int(size)) for at, size in map(str.split, file.read_text().splitlines())]
