"""What an engine process says, in the server's log: line by line over its standard error."""

from __future__ import annotations

import faulthandler
import logging
import re
import sys
import threading
from typing import IO

from ..log_format import LogFormatter
from ..printable import printable

logger = logging.getLogger(__name__)

_FORMAT = "%(levelname)s %(message)s"
_LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")
_MAX_LENGTH = 4000


def start_engine_log() -> None:
    """For the engine's side: log to standard error as `relay` reads it, and say there where it crashed."""
    stderr = logging.StreamHandler()
    stderr.setFormatter(LogFormatter(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[stderr])
    sys.excepthook = lambda _kind, error, _frames: _log_uncaught(error)
    threading.excepthook = lambda given: _log_uncaught(given.exc_value)
    faulthandler.enable()


def _log_uncaught(error: BaseException | None) -> None:
    logger.critical("nobody caught an exception", exc_info=error)


def relay(stream: IO[bytes], name: str) -> threading.Thread:
    """Have a thread write each line of `stream`, which it closes, to the server's log, after the engine's `name`.

    A line keeps its level. What has none is a library's word, or goes on from the line before: a warning at least.
    """
    thread = threading.Thread(target=_relay, args=(stream, name), name="engine-log", daemon=True)
    thread.start()
    return thread


def _relay(stream: IO[bytes], name: str) -> None:
    level = logging.WARNING
    with stream:
        while raw := stream.readline(_MAX_LENGTH):
            text = printable(raw.decode(errors="replace").rstrip())
            found = _LINE.fullmatch(text)
            level = logging.getLevelNamesMapping()[found[1]] if found else max(level, logging.WARNING)
            if text:
                logger.log(level, "%s: %s", name, found[2] if found else text)
