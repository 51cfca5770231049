"""The server's log file, from its last lines on, also across its rotation."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .errors import LauncherError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_POLL_SECONDS = 0.2
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ([A-Z]+) ([^:]+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LogLine:
    """`text` is the line as it stands; a line that goes on from the one before has its level and no `time`."""

    text: str
    level: str
    time: str = ""
    logger: str = ""
    message: str = ""


def read_log(path: Path, count: int, level: str, *, follow: bool) -> Iterator[LogLine]:
    """The last `count` lines of at least `level`, then the new ones as they come. Raises LauncherError."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LauncherError(f"{path} cannot be read ({error.strerror}); has a server run here yet?") from None
    with file:
        before = "INFO"
        last: deque[LogLine] = deque(maxlen=count)
        for text in file:
            line = parsed(text.rstrip("\n"), before)
            before = line.level
            if _is_shown(line, level):
                last.append(line)
        yield from last
        if follow:
            for text in _followed(path, file):
                line = parsed(text, before)
                before = line.level
                if _is_shown(line, level):
                    yield line


def parsed(text: str, level_before: str) -> LogLine:
    found = _LINE.fullmatch(text)
    if found is None:
        return LogLine(text, level_before, message=text)
    return LogLine(text, found[2], found[1], found[3], found[4])


def _is_shown(line: LogLine, level: str) -> bool:
    return line.level not in LEVELS or LEVELS.index(line.level) >= LEVELS.index(level)


def _followed(path: Path, file: TextIO) -> Iterator[str]:
    """New whole lines; when the file is rotated away, those of the one that takes its place."""
    rest = ""
    try:
        while True:
            piece = file.readline()
            if piece.endswith("\n"):
                yield (rest + piece).rstrip("\n")
                rest = ""
            elif piece:
                rest += piece
            elif _is_replaced(path, file):
                file.close()
                file, rest = path.open(encoding="utf-8", errors="replace"), ""
            else:
                time.sleep(_POLL_SECONDS)
    finally:
        file.close()


def _is_replaced(path: Path, file: TextIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False
