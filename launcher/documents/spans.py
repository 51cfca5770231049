"""Places in a text, and edits of bracketed collections (`{…}`, `[…]`) that touch nothing around them.

JSON's objects and arrays, TOML's inline tables and arrays, and YAML's flow collections all take part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import EditError

Replacement: TypeAlias = tuple[int, int, str]
"""From, to, the new text in between."""

MemberText: TypeAlias = Callable[[str | None], str]
"""The text of a new entry, given the indentation of its line; None asks for one line."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value's place. `block` is set for YAML's indented collections."""

    start: int
    end: int
    kind: str  # "scalar", "mapping" or "list"
    entries: tuple[Entry, ...] = ()
    block: bool = False

    def entry(self, key: str | int) -> Entry | None:
        if isinstance(key, int):
            return self.entries[key] if self.kind == "list" and key < len(self.entries) else None
        found = [entry for entry in self.entries if entry.key == key]
        return found[-1] if found and self.kind == "mapping" else None


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value, or a list's item. `comma` is where the comma after it stands, if there is one."""

    key: str | int
    start: int
    node: Node
    comma: int | None = None

    @property
    def end(self) -> int:
        return self.node.end


def start_of(root: Node | None, path: Sequence[str | int]) -> int:
    """Where the entry at `path` begins, or the deepest one above it that stands in the text by itself."""
    node, start = root, root.start if root else 0
    for key in path:
        entry = node.entry(key) if node else None
        if entry is None:
            break
        node, start = entry.node, entry.start
    return start


def splice(text: str, replacements: Sequence[Replacement]) -> str:
    for start, end, new in sorted(replacements, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def newline_of(text: str) -> str:
    """The line end that the text's first line uses."""
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def line_end(text: str, position: int) -> int:
    """Where the line's end begins (at `\\r\\n` or `\\n`), or the end of the text."""
    end = text.find("\n", position)
    if end < 0:
        return len(text)
    return end - 1 if end > position and text[end - 1] == "\r" else end


def indent_before(text: str, position: int) -> str | None:
    """The whitespace before `position` if nothing else stands before it on its line, else None."""
    before = text[line_start(text, position) : position].removeprefix("\ufeff")
    return before if not before.strip() else None


def indent_of_line(text: str, position: int) -> str:
    line = text[line_start(text, position) : position].removeprefix("\ufeff")
    return line[: len(line) - len(line.lstrip())]


def after_line_comments(text: str, position: int, comment: re.Pattern[str]) -> int:
    """Past the comments that follow `position` on its line; `position` itself when there are none."""
    while True:
        spaces = re.compile(r"[ \t]*").match(text, position)
        found = comment.match(text, spaces.end() if spaces else position)
        if found is None or "\n" in found.group():
            return position
        position = found.end()


def insert(text: str, node: Node, member: MemberText, comment: re.Pattern[str], compact: bool = False) -> str:
    """Append an entry to a bracketed collection that has some already, in the manner of its last one."""
    last = node.entries[-1]
    indent = indent_before(text, last.start)
    after = last.end if last.comma is None else last.comma + 1
    if indent is None:
        point, lead = after, "" if compact else " "
    else:
        point, lead = after_line_comments(text, after, comment), newline_of(text) + indent
    new = lead + member(indent)
    if last.comma is not None:
        return splice(text, [(point, point, new + ",")])
    if point == after:
        return splice(text, [(point, point, "," + new)])
    return splice(text, [(last.end, last.end, ","), (point, point, new)])


def fill(text: str, node: Node, member: MemberText, base: str | None, unit: str) -> str:
    """Put the first entry into an empty collection whose line is indented by `base`; None keeps it on one line."""
    inner = text[node.start + 1 : node.end - 1]
    comments = inner.rstrip()
    point = node.start + 1 + len(comments)
    if base is None and "\n" not in inner:
        new = f" {member(None)} " if comments else member(None)
        return splice(text, [(point, node.end - 1, new)])
    newline, base = newline_of(text), base or ""
    new = newline + base + unit + member(base + unit)
    if comments and "\n" in text[point : node.end - 1]:
        return splice(text, [(point, point, new)])
    return splice(text, [(point, node.end - 1, new + newline + base)])


def remove(text: str, node: Node, key: str | int) -> str:
    """Take an entry and its comma out of a bracketed collection; comments around it stay."""
    entry = node.entry(key)
    if entry is None:
        raise EditError(f"{key!r} is not there")
    cuts: list[Replacement] = [(entry.start, entry.end, "")]
    tail = entry.end
    if entry.comma is not None:
        cuts.append((entry.comma, entry.comma + 1, ""))
        if not text[entry.end : entry.comma].strip():
            tail = entry.comma + 1
            cuts = [(entry.start, tail, "")]
    index = node.entries.index(entry)
    if entry.comma is None and index > 0:
        before = node.entries[index - 1].comma
        if before is not None:
            cuts.append((before, before + 1, ""))
    if len(node.entries) == 1 and not splice(text, cuts)[node.start + 1 : node.end - 1 - _length(cuts)].strip():
        return splice(text, [(node.start + 1, node.end - 1, "")])
    start, end = _with_space(text, entry.start, tail, last=entry.comma is None)
    cuts[0] = (start, end, "")
    return splice(text, cuts)


def _length(cuts: Sequence[Replacement]) -> int:
    return sum(end - start for start, end, _ in cuts)


def _with_space(text: str, start: int, end: int, last: bool) -> tuple[int, int]:
    """Widen a cut by the whitespace that it would leave behind: its whole line, or the blanks on one side."""
    left = start
    while left > 0 and text[left - 1] in " \t":
        left -= 1
    right = end
    while right < len(text) and text[right] in " \t":
        right += 1
    alone = left > 0 and text[left - 1] == "\n"
    if alone and text[right : right + 1] in ("\n", "\r"):
        newline = left - 2 if text[left - 2 : left] == "\r\n" else left - 1
        return newline, right
    if last:
        return (start, right) if alone else (left, end)
    return start, right
