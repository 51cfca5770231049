"""JSON inside an answer: found to its end without parsing it, so that it can be passed on as it comes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from .marks import marks
from .source import Reading, Source

_IN_STRING = re.compile(r'["\\]')
_STRUCTURE = re.compile(r'["{}\[\]]')
_SCALAR_END = re.compile(r"[\s,}\]<]")


class JsonScanner:
    """Follows the structure of one JSON value; it does not check it."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_scalar = False
        self._is_escaped = False
        self._has_begun = False
        self.in_string = False

    def feed(self, text: str) -> int:
        """How many characters of `text` belong to the value, when it ends in there; else -1."""
        position = 0
        while position < len(text):
            if not self._has_begun:
                self._has_begun = True
                self._is_scalar = text[position] not in '"{['
            if self._is_scalar:
                end = _SCALAR_END.search(text, position)
                return end.start() if end else -1
            position = self._string(text, position) if self.in_string else self._outside(text, position)
            if position and not self.in_string and self._depth == 0:
                return position
        return -1

    def _string(self, text: str, position: int) -> int:
        if self._is_escaped:
            self._is_escaped = False
            return position + 1
        found = _IN_STRING.search(text, position)
        if found is None:
            return len(text)
        if found[0] == "\\":
            self._is_escaped = True
        else:
            self.in_string = False
        return found.end()

    def _outside(self, text: str, position: int) -> int:
        found = _STRUCTURE.search(text, position)
        if found is None:
            return len(text)
        if found[0] == '"':
            self.in_string = True
        else:
            self._depth += 1 if found[0] in "{[" else -1
        return found.end()


def json_value(source: Source, emit: Callable[[str], None], ends: Sequence[str]) -> Reading[bool]:
    """Read one JSON value, giving its text to `emit` as it comes; whether it came to its end.

    One of `ends` outside of a string cuts the value short. Inside a string it is the string's own text if
    the value comes to its end after all: from there on nothing is passed on until that is known.
    """
    scanner = JsonScanner()
    searched = marks(*ends)
    scanned = 0
    doubtful = -1
    while True:
        text = source.buffer
        limit = len(text)
        if not source.is_ended:
            limit -= searched.held_back(text)
        while scanned < limit:
            end, _ = searched.find(text, scanned)
            is_marker = 0 <= end < limit
            stop = end if is_marker else limit
            count = scanner.feed(text[scanned:stop])
            if count >= 0:
                emit(source.take(scanned + count))
                return True
            scanned = stop
            if is_marker and not scanner.in_string:
                emit(source.take(scanned if doubtful < 0 else doubtful))
                return False
            if is_marker:
                doubtful = scanned if doubtful < 0 else doubtful
                scanner.feed(text[scanned])
                scanned += 1
        if source.is_ended:
            emit(source.take(scanned if doubtful < 0 else doubtful))
            return False
        if doubtful < 0 and scanned:
            emit(source.take(scanned))
            scanned = 0
        yield


def json_string(source: Source, ends: Sequence[str]) -> Reading[str | None]:
    """A whole JSON string, decoded; None where no well-formed one comes next."""
    pieces: list[str] = []
    if (yield from source.peek()) != '"':
        return None
    if not (yield from json_value(source, pieces.append, ends)):
        return None
    try:
        value = json.loads("".join(pieces), strict=False)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
