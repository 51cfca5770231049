"""A piece of a prompt, or of several, computed so that whoever leaves meanwhile is heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..cache.codec import evaluate
from .faults import shared
from .row import Row

_NOTICE_SECONDS = 0.05
"""About so long goes by until it is noticed, where the piece has layers enough."""


class PromptWork:
    """`go_on` is asked before each group of layers, as `BatchEngine.listen` says."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds_per_token = 0.0
        self.go_on: Callable[[], bool] = lambda: True
        self.is_under_way = False

    def finish(self, rows: Sequence[Row], count: int) -> bool:
        """Compute what `count` tokens have left pending in the rows' caches, as few layers at a time as take long.

        False where that is given up: the rows have no caches then.
        """
        started, num_layers = self._clock(), len(rows[0].caches)
        num_groups = 1 + int(count * self._seconds_per_token / _NOTICE_SECONDS)
        size = max(1, num_layers // num_groups)
        self.is_under_way = True
        try:
            for start in range(0, num_layers, size):
                with shared():
                    goes_on = self.go_on()
                if not goes_on:
                    for row in rows:
                        row.caches = []
                    return False
                evaluate([cache for row in rows for cache in row.caches[start : start + size]])
        finally:
            self.is_under_way = False
        self._seconds_per_token = (self._clock() - started) / count
        return True
