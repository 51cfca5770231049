"""A value that ends at a mark, in text where that mark may be missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .marks import marks
from .source import Reading, Source


def value_text(
    source: Source, emit: Callable[[str], None], ends: Sequence[str], closes: Sequence[str], opens: Sequence[str]
) -> Reading[str]:
    """Pass a value on up to one of `ends`, which is read and returned; "" where none comes.

    One of `closes`, which end what the value is part of, may be text of the value, a file's perhaps, or a
    sign that the value's end is missing. From there on nothing is passed on until an end comes, and then it
    was text, or one of `opens` or the answer's end, and then the value ended before it.
    """
    searched = marks(*ends, *closes)
    while True:
        position, marker = searched.find(source.buffer)
        sure = len(source.buffer) - (0 if source.is_ended else searched.held_back(source.buffer))
        if marker and position < sure:
            _pass(source, emit, position)
            if marker in ends:
                return source.take(len(marker))
            return (yield from _after_close(source, emit, ends, opens))
        _pass(source, emit, sure)
        if source.is_ended:
            return ""
        yield


def _after_close(
    source: Source, emit: Callable[[str], None], ends: Sequence[str], opens: Sequence[str]
) -> Reading[str]:
    searched = marks(*ends, *opens)
    start = 0
    while True:
        position, marker = searched.find(source.buffer, start)
        sure = len(source.buffer) - (0 if source.is_ended else searched.held_back(source.buffer))
        if marker in ends and position < sure:
            _pass(source, emit, position)
            return source.take(len(marker))
        if (marker and position < sure) or source.is_ended:
            return ""
        start = max(start, sure - searched.reach)
        yield


def _pass(source: Source, emit: Callable[[str], None], count: int) -> None:
    if count > 0:
        emit(source.take(count))
