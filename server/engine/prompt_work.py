"""A piece of a prompt, computed so that it can be given up: its client may leave meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Container

from ..cache.codec import evaluate
from .row import Row

_NOTICE_SECONDS = 0.05
"""About so long goes by until it is noticed, where the piece has layers enough."""


class PromptWork:
    """`cancelled` names the requests that nobody waits for any more; another thread may write it."""

    def __init__(self, cancelled: Container[str], clock: Callable[[], float]) -> None:
        self._cancelled = cancelled
        self._clock = clock
        self._seconds_per_token = 0.0

    def finish(self, row: Row, count: int) -> bool:
        """Compute what `count` tokens have left pending in the row's caches, as few layers at a time as take long.

        False where the request is cancelled meanwhile: the row has no caches then.
        """
        started = self._clock()
        num_pieces = 1 + int(count * self._seconds_per_token / _NOTICE_SECONDS)
        size = max(1, len(row.caches) // num_pieces)
        for start in range(0, len(row.caches), size):
            if row.key in self._cancelled:
                row.caches = []
                return False
            evaluate(row.caches[start : start + size])
        self._seconds_per_token = (self._clock() - started) / count
        return True
