"""Where the server's log goes: to stderr, and to a file that is rotated."""

from __future__ import annotations

import logging
import os
import traceback
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from .engine.engine_log import printable
from .errors import OmlxError, RequestError

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FILE_BYTES = 10 << 20
_OLD_FILES = 5

logger = logging.getLogger(__name__)


def traceback_of(error: BaseException) -> str:
    """Where an exception was raised, after those that led to it. Its words are left out, which may quote what was
    asked, but for the system's and for our own that no request is in."""
    chain = [error]
    while (earlier := _earlier(chain[-1])) is not None and not any(earlier is each for each in chain):
        chain.append(earlier)
    return "".join(_raised(each) for each in reversed(chain))


def _earlier(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _raised(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    words = ""
    if isinstance(error, OSError) and error.strerror:
        words = f": {error.strerror}"
    elif isinstance(error, OmlxError) and not isinstance(error, RequestError):
        words = f": {error}"
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return f"Traceback (most recent call last):\n{frames}{name}{words}\n" + "".join(map(traceback_of, parts))


class _Formatter(logging.Formatter):
    """An exception's text begins no line, and has no control characters: a client may have written some of it."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another handler's words, which logging keeps for all
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        lines = traceback_of(ei[1]).splitlines() if ei[1] is not None else []
        return "\n".join(f"  {printable(line)}" for line in lines)


class _PrivateFile(RotatingFileHandler):
    """Its files are for their owner alone, as all that omlx keeps."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # of a file that stood there with other rights
    return descriptor


def start_logging(folder: Path, *, quiet: bool) -> None:
    """Log to stderr, warnings alone where it is `quiet`, and all of it to `folder/server.log`.

    A server whose log cannot be written serves all the same, and says so.
    """
    stderr = logging.StreamHandler()
    stderr.setFormatter(_Formatter(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[stderr])
    root = logging.getLogger()
    if quiet:
        for handler in root.handlers:
            handler.setLevel(logging.WARNING)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = _PrivateFile(folder / "server.log", maxBytes=_FILE_BYTES, backupCount=_OLD_FILES, encoding="utf-8")
    except OSError as error:
        logger.warning("The log is not kept: %s cannot be written (%s)", folder / "server.log", error.strerror or error)
        return
    file.setFormatter(_Formatter(_FORMAT))
    root.addHandler(file)
