"""Where the server's log goes: to stderr, and to a file that is rotated."""

from __future__ import annotations

import logging
import os
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FILE_BYTES = 10 << 20
_OLD_FILES = 5

logger = logging.getLogger(__name__)


class _Formatter(logging.Formatter):
    """An exception's text begins no line, and has no control characters: a client may have written some of it."""

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).splitlines()
        return "\n".join("  " + "".join(mark if mark.isprintable() else " " for mark in line) for line in lines)


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
    logging.basicConfig(level=logging.INFO)
    root = logging.getLogger()
    for handler in root.handlers:
        handler.setFormatter(_Formatter(_FORMAT))
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
