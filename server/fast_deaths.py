"""Tells a service that cannot live: one that died again and again, soon after its start, is not started once more.

launchd starts a service for ever; so each start is written down, taken out again at a good end, and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

MOST_DEATHS = 5
WITHIN_SECONDS = 180.0
_UNKNOWN = "it was killed, or crashed without a word; the last lines before may say more"


class Start(msgspec.Struct, frozen=True):
    """A start that had no good end, with what it died of."""

    at: float
    reason: str = _UNKNOWN


class FastDeaths:
    """The starts in `path` that had no good end; a file that cannot be read counts as none."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock

    def verdict(self) -> str | None:
        """Why the service must not start again; None where it may. Saying so forgets the starts: a person may try."""
        starts = self._recent()
        if len(starts) < MOST_DEATHS:
            return None
        self._write([])
        return (
            f"the service died {len(starts)} times within {WITHIN_SECONDS / 60:.0f} minutes and is not started again. "
            f"The last time: {starts[-1].reason}. When that is mended: `omlx service start`"
        )

    def began(self) -> None:
        self._write([*self._recent(), Start(self._clock())])

    def died(self, reason: str) -> None:
        """The start that was written down last ends for this reason."""
        starts = self._recent()
        if starts:
            self._write([*starts[:-1], Start(starts[-1].at, reason)])

    def ended_well(self) -> None:
        self._write(self._recent()[:-1])

    def _recent(self) -> list[Start]:
        try:
            starts = msgspec.json.decode(self._path.read_bytes(), type=list[Start])
        except (OSError, msgspec.DecodeError):
            return []
        return [start for start in starts if 0 <= self._clock() - start.at < WITHIN_SECONDS]

    def _write(self, starts: list[Start]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(starts))
        temporary.replace(self._path)
