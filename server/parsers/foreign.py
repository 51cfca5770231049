"""Notices that a model writes its calls in another format than the one that is parsed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .base import ToolFormat
from .marks import marks


class ForeignMarkers:
    """Looks through text for the openers of other formats, and tells once of each format it finds."""

    def __init__(self, own: ToolFormat, formats: Sequence[ToolFormat], found: Callable[[str], None]) -> None:
        self._names = {
            opener: each.name for each in formats for opener in each.openers if opener not in set(own.markers)
        }
        self._marks = marks(*self._names)
        self._found = found
        self._tail = ""

    def see(self, text: str) -> None:
        seen = self._tail + text
        if not self._marks.may_begin_in(seen):
            self._tail = ""
            return
        position, opener = self._marks.find(seen)
        while opener:
            self._found(self._names[opener])
            position, opener = self._marks.find(seen, position + 1)
        self._tail = seen[-self._marks.reach :]
