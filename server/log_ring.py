"""The last lines of the log, kept in memory for the admin pages."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .log_format import traceback_of
from .printable import printable

_MAX_LINES = 2000
_MAX_LENGTH = 4000


@dataclass(frozen=True, slots=True)
class LogLine:
    """`number` counts from 1 since the start; `time` is in seconds since the epoch."""

    number: int
    time: float
    level: str
    logger: str
    message: str


class LogRing(logging.Handler):
    """Keeps what the server's loggers say while it is `attached`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[LogLine] = deque(maxlen=_MAX_LINES)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = printable(record.getMessage())
            if record.exc_info and record.exc_info[1] is not None:
                message += "\n" + traceback_of(record.exc_info[1])
        except Exception:  # a handler must not raise into whoever logs; logging says it on stderr
            self.handleError(record)
            return
        self._count += 1
        line = LogLine(self._count, record.created, record.levelname, record.name, message[:_MAX_LENGTH])
        self._lines.append(line)

    def lines(self, least: str = "INFO", after: int = 0, limit: int = 500) -> tuple[LogLine, ...]:
        """The last lines of at least this level that came after line number `after`, the oldest first."""
        floor = logging.getLevelNamesMapping()[least]
        levels = logging.getLevelNamesMapping()
        found = [line for line in self._lines if line.number > after and levels.get(line.level, 0) >= floor]
        return tuple(found[-limit:])

    @contextmanager
    def attached(self) -> Iterator[None]:
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
