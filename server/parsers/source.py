"""Text as it arrives, read by grammars.

A grammar is a generator: it reads from a `Source` with `yield from` and is suspended where the text it
needs has not come yet. So each format is written as if the whole answer were there, and there is one
path for any way the answer is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from .marks import Marks, marks

Value = TypeVar("Value")
Reading = Generator[None, None, Value]
"""A piece of a grammar: gives a `Value` in the end, yields nothing while it waits for text."""

_SPACE = " \t\r\n"


class Source:
    """The text that has come and is not read yet."""

    def __init__(self) -> None:
        self.buffer = ""
        self.is_ended = False
        self._recorded: list[str] | None = None
        self._awaited: tuple[Marks, Callable[[str], None]] | None = None

    def push(self, text: str) -> bool:
        """Whether the grammar has to read on. Where it only waits for a mark, and none begins in the text, as in most
        pieces of an answer, the text goes where it would have gone, past the grammar."""
        if self._awaited is not None and not self.buffer and self._recorded is None:
            searched, emit = self._awaited
            if not searched.may_begin_in(text):
                emit(text)
                return False
        self.buffer += text
        return True

    def take(self, count: int) -> str:
        text, self.buffer = self.buffer[:count], self.buffer[count:]
        if self._recorded is not None:
            self._recorded.append(text)
        return text

    def unread(self, text: str) -> None:
        """Put back what was read last."""
        self.buffer = text + self.buffer

    def record(self) -> None:
        """From here on keep what is read, until `recorded`."""
        self._recorded = []

    def recorded(self) -> str:
        """What was read since `record`, which ends here."""
        text, self._recorded = "".join(self._recorded or ()), None
        return text

    def until(self, markers: Sequence[str], emit: Callable[[str], None]) -> Reading[str]:
        """Give the text before the first of `markers` to `emit` as it comes; read the marker and return it.

        Returns "" at the end of the text. Where two markers start at one place the longer one wins.
        """
        searched = marks(*markers)
        while True:
            position, marker, held = searched.look(self.buffer)
            safe = len(self.buffer) if self.is_ended else len(self.buffer) - held
            if marker and position < safe:
                if position:
                    emit(self.take(position))
                return self.take(len(marker))
            if safe:
                emit(self.take(safe))
            if self.is_ended:
                return ""
            self._awaited = searched, emit
            yield
            self._awaited = None

    def text_until(self, markers: Sequence[str]) -> Reading[tuple[str, str]]:
        """The text before the first of `markers`, and the marker ("" at the end of the text)."""
        pieces: list[str] = []
        marker = yield from self.until(markers, pieces.append)
        return "".join(pieces), marker

    def peek(self, count: int = 1) -> Reading[str]:
        """The next `count` characters, left unread; fewer at the end of the text."""
        while len(self.buffer) < count and not self.is_ended:
            yield
        return self.buffer[:count]

    def skip_space(self) -> Reading[str]:
        """Read white space and return it."""
        space = ""
        while True:
            rest = self.buffer.lstrip(_SPACE)
            space += self.take(len(self.buffer) - len(rest))
            if rest or self.is_ended:
                return space
            yield

    def word(self, extra: str = "_.-") -> Reading[str]:
        """Read letters, digits and the `extra` characters that come next."""
        length = 0
        while True:
            while length < len(self.buffer) and (self.buffer[length].isalnum() or self.buffer[length] in extra):
                length += 1
            if length < len(self.buffer) or self.is_ended:
                return self.take(length)
            yield

    def accept(self, *words: str) -> Reading[str]:
        """Read the longest of `words` that comes next and return it; "" when none does."""
        while True:
            fitting = [word for word in words if self.buffer.startswith(word)]
            longer = [word for word in words if len(word) > len(self.buffer) and word.startswith(self.buffer)]
            if self.is_ended or not longer:
                word = max(fitting, key=len, default="")
                self.take(len(word))
                return word
            yield
