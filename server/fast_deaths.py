"""When something that dies is not started once more: three times in a row within a minute of its start.

One rule for the engines under the server (`models.supervision`) and for the server under launchd or systemd, which
start a service for ever; so each start of the service is written down, and how long it lived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import msgspec

from .private_folder import make_private

MAX_FAST_DEATHS = 3
FAST_SECONDS = 60.0
_UNKNOWN = "it was killed, or crashed without a word; the last lines before may say more"


def is_started_by_system(environ: Mapping[str, str], pid: int, parent: int) -> bool:
    """Whether launchd or systemd started this very process, and would again: not a terminal that they once started.

    systemd names the process that it executed (SYSTEMD_EXEC_PID, in the manual page systemd.exec); launchd is the
    parent of a service, and names it (XPC_SERVICE_NAME, "0" where it is none).
    """
    by_launchd = parent == 1 and environ.get("XPC_SERVICE_NAME", "0") not in ("", "0")
    return by_launchd or environ.get("SYSTEMD_EXEC_PID") == str(pid)


class Start(msgspec.Struct, frozen=True):
    """A start that had no good end: when, what it died of, and when where that is known."""

    at: float
    reason: str = _UNKNOWN
    died_at: float | None = None


class FastDeaths:
    """The service's last starts in `path`, as many as died fast and in a row; a file that cannot be read has none."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock

    def verdict(self) -> str | None:
        """Why the service must not start again; None where it may. Saying so forgets the starts: a person may try."""
        row = self._row()
        if len(row) < MAX_FAST_DEATHS:
            return None
        self._write([])
        return (
            f"the service died {len(row)} times in a row, each within a minute of its start, and is not started again. "
            f"The last time: {row[-1].reason}. "
            "When that is mended: `omlx service start`, or `brew services restart omlx`"
        )

    def began(self) -> None:
        self._write([*self._row(), Start(self._clock())])

    def died(self, reason: str) -> None:
        """The start that was written down last ends for this reason."""
        starts = self._read()
        if starts:
            self._write([*starts[:-1], Start(starts[-1].at, reason, self._clock())])

    def ended_well(self) -> None:
        self._write([])

    def _row(self) -> list[Start]:
        """A start that was killed is taken to have lived until the next."""
        row: list[Start] = []
        for start, following in pairwise([*self._read(), Start(self._clock())]):
            lived = (start.died_at or following.at) - start.at
            row = [*row, start] if 0 <= lived < FAST_SECONDS else []
        return row

    def _read(self) -> list[Start]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Start])
        except (OSError, msgspec.DecodeError):
            return []

    def _write(self, starts: list[Start]) -> None:
        make_private(self._path.parent)
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(starts))
        temporary.replace(self._path)
