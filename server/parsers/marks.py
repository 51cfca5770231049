"""Finding marks in text that is still coming: which stands first, and what may be the beginning of one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


class Marks:
    """A set of marks, prepared for searching. Each is a string that means something to a parser."""

    __slots__ = ("_any", "_beginnings", "_first", "_longest")

    def __init__(self, marks: Iterable[str]) -> None:
        longest_first = sorted({mark for mark in marks if mark}, key=lambda mark: (-len(mark), mark))
        self._any = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._first = re.compile(
            f"[{re.escape(''.join({mark[0] for mark in longest_first}))}]" if longest_first else "(?!)"
        )
        self._beginnings = frozenset(mark[:size] for mark in longest_first for size in range(1, len(mark)))
        self._longest = len(longest_first[0]) if longest_first else 0

    @property
    def reach(self) -> int:
        """How many characters the longest proper beginning of a mark has."""
        return max(self._longest - 1, 0)

    def look(self, text: str) -> tuple[int, str, int]:
        """What `find` and `held_back` tell, in one search where no mark begins, as in most pieces of an answer."""
        return (*self.find(text), self.held_back(text)) if self.may_begin_in(text) else (-1, "", 0)

    def may_begin_in(self, text: str) -> bool:
        """Whether the text has a character that a mark begins with."""
        return self._first.search(text) is not None

    def find(self, text: str, start: int = 0) -> tuple[int, str]:
        """Where the first mark stands, and which: the longest of those that begin there. (-1, "") for none."""
        found = self._any.search(text, start)
        return (found.start(), found[0]) if found else (-1, "")

    def held_back(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a mark."""
        end = len(text)
        position = max(0, end - self._longest + 1)
        while found := self._first.search(text, position):
            position = found.start()
            if text[position:] in self._beginnings:
                return end - position
            position += 1
        return 0


@lru_cache(maxsize=512)
def marks(*words: str) -> Marks:
    """The `Marks` of these words, prepared once."""
    return Marks(words)
