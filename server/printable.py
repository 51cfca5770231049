"""Text that others chose, as it may stand in a log or on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with a space for each mark that would steer a terminal, or begin a line that omlx did not write."""
    return "".join(mark if mark.isprintable() else " " for mark in text)
