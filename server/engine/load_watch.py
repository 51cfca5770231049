"""Tells a load that is slow from one that is stuck, from within the process that loads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LEAST_WORK_SECONDS = 0.005
"""Of a processor. Who reads a few megabytes needs as much, however long that takes; who waits for what does not come
needs nothing."""


def others_worked() -> float:
    """The seconds of a processor that the process's other threads have had."""
    return time.process_time() - time.thread_time()


@contextmanager
def telling_of_work(
    tell: Callable[[], bool], every_seconds: float, worked: Callable[[], float] = others_worked
) -> Iterator[None]:
    """Within, a thread calls `tell` at once, and later whenever the other ones have worked since: it looks every so
    often. It ends where `tell` says that nobody listens."""
    is_over = threading.Event()

    def watch() -> None:
        while tell():
            told_at = worked()
            while not is_over.wait(every_seconds):
                if worked() - told_at >= _LEAST_WORK_SECONDS:
                    break
            else:
                return

    watching = threading.Thread(target=watch, name="load-watch", daemon=True)
    watching.start()
    try:
        yield
    finally:
        is_over.set()
        watching.join()
