"""A line of the log, the server's or an engine's: it is one line, and does not repeat what was asked."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

from .errors import OmlxError, RequestError, RequestFailed
from .printable import printable

_OF_THE_DEVICE = re.compile(r"\[(metal|malloc|cuda)|cu(da|blas|dnn)\w+.* failed: ", re.IGNORECASE)
"""How MLX begins what it says of the device and its memory; mlx#2821 has an example."""


def described(error: BaseException) -> str:
    """The exception's kind. Its words, which may quote what was asked, are left out but for the system's, the device's
    and our own that no request is in."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    is_ours = isinstance(error, OmlxError) and not isinstance(error, RequestError | RequestFailed)
    is_the_device = isinstance(error, RuntimeError) and _OF_THE_DEVICE.match(str(error))
    return f"{name}: {error}" if is_ours or is_the_device else name


def traceback_of(error: BaseException) -> str:
    """Where an exception was raised, after those that led to it, each as `described`."""
    chain = [error]
    while (earlier := _earlier(chain[-1])) is not None and not any(earlier is each for each in chain):
        chain.append(earlier)
    return "".join(_raised(each) for each in reversed(chain))


def _earlier(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _raised(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return f"Traceback (most recent call last):\n{frames}{described(error)}\n" + "".join(map(traceback_of, parts))


class LogFormatter(logging.Formatter):
    """A message is one line, and a traceback's lines are indented below it: what others chose, a client or a model's
    files, begins no line and steers no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another handler's words, which logging keeps for all
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        lines = traceback_of(ei[1]).splitlines() if ei[1] is not None else []
        return "\n".join(f"  {printable(line)}" for line in lines)
