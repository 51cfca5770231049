"""Work that can wait, done beside work that cannot."""

from __future__ import annotations

from collections.abc import Callable

_SECONDS = 0.5
_SHARE = 0.02


class Pace:
    """Does a `piece` twice a second at most, and less often where that would take more than a fiftieth of the time.

    Each rank of a group has its own: a piece computes nothing that they would have to agree on.
    `clock` gives seconds from any fixed point.
    """

    def __init__(self, piece: Callable[[], object], clock: Callable[[], float]) -> None:
        self._piece = piece
        self._clock = clock
        self._due = clock()

    def offer(self) -> None:
        """Do a piece if it is time for one."""
        started = self._clock()
        if started >= self._due:
            self._piece()
            self._due = started + max(_SECONDS, (self._clock() - started) / _SHARE)
