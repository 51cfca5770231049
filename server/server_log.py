"""Where the server's log goes: to stderr, and to a file that is rotated."""

from __future__ import annotations

import logging
import os
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from .engine.engine_log import printable

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FILE_BYTES = 10 << 20
_OLD_FILES = 5

logger = logging.getLogger(__name__)


class _Formatter(logging.Formatter):
    """An exception's text begins no line, and has no control characters: a client may have written some of it."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another handler's words, which logging keeps for all
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"  {printable(line)}" for line in lines)


class _PrivateFile(RotatingFileHandler):
    """Its files are for their owner alone, as all that omlx keeps."""

    def _open(self) -> TextIOWrapper:
        file = super()._open()
        os.fchmod(file.fileno(), 0o600)
        return file


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
