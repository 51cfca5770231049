"""Notices that a model writes its calls in another format than the one that is parsed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .base import ToolFormat


class ForeignMarkers:
    """Looks through text for the openers of other formats, and tells once of each format it finds."""

    def __init__(self, own: ToolFormat, formats: Sequence[ToolFormat], found: Callable[[str], None]) -> None:
        self._names = {
            opener: each.name for each in formats for opener in each.openers if opener not in set(own.markers)
        }
        self._overlap = max((len(opener) for opener in self._names), default=1) - 1
        self._found = found
        self._tail = ""

    def see(self, text: str) -> None:
        seen = self._tail + text
        for opener, name in self._names.items():
            if opener in seen:
                self._found(name)
        self._tail = seen[-self._overlap :] if self._overlap else ""
