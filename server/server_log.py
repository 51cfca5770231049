"""Where the server's log goes: to stderr, and to a file that is rotated."""

from __future__ import annotations

import logging
import os
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from .log_format import LogFormatter
from .private_folder import make_private

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FILE_BYTES = 10 << 20
_OLD_FILES = 5

logger = logging.getLogger(__name__)


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
    stderr.setFormatter(LogFormatter(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[stderr])
    root = logging.getLogger()
    if quiet:
        for handler in root.handlers:
            handler.setLevel(logging.WARNING)
    try:
        make_private(folder)
        file = _PrivateFile(folder / "server.log", maxBytes=_FILE_BYTES, backupCount=_OLD_FILES, encoding="utf-8")
    except OSError as error:
        logger.warning("The log is not kept: %s cannot be written (%s)", folder / "server.log", error.strerror or error)
        return
    file.setFormatter(LogFormatter(_FORMAT))
    root.addHandler(file)
