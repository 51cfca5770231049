"""Edits of YAML texts: the new fragment is spliced in, and every other line keeps its bytes."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..errors import DocumentError, EditError
from . import spans
from .limits import document_error
from .model import Path, Value
from .spans import Entry, Node, after_line_comments, indent_before, line_end, line_start, newline_of, splice
from .yaml_reader import read
from .yaml_text import YamlStyle, inline

_COMMENT = re.compile(r"#[^\n\r]*")


def read_ruamel(text: str) -> Value:
    """The value as a YAML 1.2 reader, independent of the one that the editor uses, reads it; ValueError if not."""
    try:
        value: Any = YAML(typ="safe", pure=True).load(text.removeprefix("\ufeff"))
    except YAMLError as error:
        raise ValueError(str(error)) from error
    return {} if value is None else value


class YamlDocument:
    """One text. `set` and `delete` want parents that exist, and return the new text."""

    def __init__(self, text: str) -> None:
        self._bom = "\ufeff" if text.startswith("\ufeff") else ""
        self.text = text.removeprefix("\ufeff")
        parsed = read(self.text)
        self.value: Value = parsed.value
        self._root = parsed.root
        self._style = _style_of(self.text, self._root)

    def set(self, path: Path, value: Value) -> str:
        return self._bom + self._set(path, value)

    def delete(self, path: Path) -> str:
        return self._bom + self._delete(path)

    def error_at(self, path: Path, fact: str) -> DocumentError:
        return document_error(fact, self.text, spans.start_of(self._root, path))

    def _set(self, path: Path, value: Value) -> str:
        if self._root is None or not path:
            return self._set_root(value if not path else {path[0]: value})
        parent, holders = self._node(path[:-1])
        entry = parent.entry(path[-1])
        if entry is not None:
            return self._replace(parent, entry, value)
        prefix = f"{inline(path[-1])}: " if isinstance(path[-1], str) else ""
        if parent.block:
            return self._append(parent, path[-1], value)
        if parent.entries:
            return spans.insert(self.text, parent, lambda _: prefix + inline(value), _COMMENT)
        if not holders or holders[-1][0].block:
            new = {path[-1]: value} if isinstance(path[-1], str) else [value]
            return self._replace(*holders[-1], new) if holders else self._set_root(new)
        return spans.fill(self.text, parent, lambda _: prefix + inline(value), None, "")

    def _node(self, path: Path) -> tuple[Node, list[tuple[Node, Entry]]]:
        """The value at `path`, and the (collection, entry) pairs on the way to it."""
        node = self._root
        holders: list[tuple[Node, Entry]] = []
        for key in path:
            entry = node.entry(key) if node else None
            if node is None or entry is None:
                raise self._from_elsewhere(path[: len(holders)], key)
            holders.append((node, entry))
            node = entry.node
            if self.text.startswith("*", node.start) and node.kind == "scalar":
                raise self._from_elsewhere(path[: len(holders)], key)
        if node is None:
            raise EditError("the document is empty")
        return node, holders

    def _from_elsewhere(self, path: Path, key: str | int) -> DocumentError:
        """An alias or a merge below `path` brings this key, and an edit there would change the other place too."""
        fact = f"{key!r} comes from another place, by an alias (`*…`) or a merge (`<<`); write it out here by itself"
        return self.error_at(path, fact)

    def _set_root(self, value: Value) -> str:
        if self._root is not None:
            return splice(self.text, [(self._root.start, self._root.end, self._style.block(value, 0))])
        newline = newline_of(self.text)
        lead = newline if self.text and not self.text.endswith("\n") else ""
        return self.text + lead + self._style.block(value, 0) + newline

    def _marker_end(self, parent: Node, entry: Entry) -> int:
        """Where the entry's dash or colon ends."""
        if parent.kind == "list":
            return entry.start + 1
        colon = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\n"'#]*?)\s*:(?=\s|$)""", re.DOTALL)
        found = colon.match(self.text, entry.start)
        if found is None or found.end() > max(entry.node.start, entry.start):
            raise EditError(f"the key {entry.key!r} is written in a way that is not edited here")
        return found.end()

    def _replace(self, parent: Node, entry: Entry, value: Value) -> str:
        node, old = entry.node, self.text[entry.node.start : entry.node.end]
        quote = old[0] if old and old[0] in "\"'" else ""
        if not parent.block:
            lead = " " if node.start == node.end and parent.kind == "mapping" else ""
            return splice(self.text, [(node.start, node.end, lead + inline(value, quote))])
        marker = self._marker_end(parent, entry)
        gap = self.text[marker : node.start] if old else ""
        if not isinstance(value, dict | list) or not value:
            if "\n" in gap:
                return splice(self.text, [(marker, node.end, f" {inline(value)}{gap.rstrip()}")])
            if not old:
                return splice(self.text, [(marker, marker, f" {inline(value)}")])
            return splice(self.text, [(node.start, node.end, inline(value, quote))])
        return self._replace_by_block(parent, entry, marker, value)

    def _replace_by_block(self, parent: Node, entry: Entry, marker: int, value: Value) -> str:
        node = entry.node
        end = node.end if node.end > node.start else marker
        column = self._column(entry.start)
        if parent.kind == "list":
            start = node.start if node.end > node.start else marker
            if "#" in self.text[marker:start]:
                return splice(self.text, [(start, end, self._style.block(value, self._column(start)))])
            return splice(self.text, [(marker, end, f" {self._style.block(value, column + 2)}")])
        inner = self._style.indent(value, column)
        lines = " " * inner + self._style.block(value, inner)
        if "\n" in self.text[marker : node.start] and node.end > node.start:
            return splice(self.text, [(line_start(self.text, node.start), end, lines)])
        point = after_line_comments(self.text, end, _COMMENT)
        return splice(self.text, [(marker, end, ""), (point, point, self._style.newline + lines)])

    def _column(self, position: int) -> int:
        return position - line_start(self.text, position)

    def _append(self, parent: Node, key: str | int, value: Value) -> str:
        column = self._column(parent.entries[0].start)
        if isinstance(key, str):
            new = f"{inline(key)}:{self._style.after_key(value, column)}"
        else:
            new = f"- {self._style.block(value, column + 2)}"
        last = parent.entries[-1]
        if self._ends_in_open_text(parent) and indent_before(self.text, last.start) is not None:
            point = line_start(self.text, last.start)
            return splice(self.text, [(point, point, " " * column + new + self._style.newline)])
        point = after_line_comments(self.text, last.end, _COMMENT)
        return splice(self.text, [(point, point, self._style.newline + " " * column + new)])

    def _ends_in_open_text(self, node: Node) -> bool:
        """Whether the last thing in it is a block text that whatever follows would change: `|+`, or one cut short by
        the file's end."""
        while node.entries:
            node = node.entries[-1].node
        header = self.text[node.start : line_end(self.text, node.start)]
        return node.kind == "scalar" and node.block and ("+" in header or "\n" not in self.text[node.end :])

    def _delete(self, path: Path) -> str:
        parent, holders = self._node(path[:-1])
        entry = parent.entry(path[-1])
        if entry is None:
            raise self._from_elsewhere(path[:-1], path[-1])
        if not parent.block:
            return spans.remove(self.text, parent, path[-1])
        if len(parent.entries) == 1:
            if holders:
                return self._replace(*holders[-1], {} if parent.kind == "mapping" else [])
            if parent.kind == "list":
                return splice(self.text, [(parent.start, parent.end, "[]")])
        return self._delete_lines(parent, entry)

    def _delete_lines(self, parent: Node, entry: Entry) -> str:
        following = {first.start: second.start for first, second in pairwise(parent.entries)}.get(entry.start)
        if indent_before(self.text, entry.start) is None:
            after = self.text[entry.end : following]
            end = following if following is not None and not after.strip() else entry.end
            return splice(self.text, [(entry.start, end, "")])
        comment_end = after_line_comments(self.text, entry.end, _COMMENT)
        if comment_end > entry.end:
            comment = self.text[entry.end : comment_end].lstrip()
            return splice(self.text, [(entry.start, comment_end, comment)])
        start, end = line_start(self.text, entry.start), line_end(self.text, entry.end)
        if end == len(self.text):
            start = max(start - (2 if self.text[:start].endswith("\r\n") else 1), 0)
            return splice(self.text, [(start, end, "")])
        return splice(self.text, [(start, self.text.index("\n", end) + 1, "")])


def _style_of(text: str, root: Node | None) -> YamlStyle:
    """The indentation of the first nested mapping and of the first sequence in a mapping, 2 where there is none."""
    mapping = sequence = None
    pending = [(root, 0)] if root is not None and root.block else []
    while pending and (mapping is None or sequence is None):
        node, column = pending.pop(0)
        for entry in node.entries:
            child = entry.node
            if not child.block or not child.entries:
                continue
            inner = child.entries[0].start - line_start(text, child.entries[0].start)
            if node.kind == "mapping" and child.kind == "mapping" and mapping is None:
                mapping = inner - column
            if node.kind == "mapping" and child.kind == "list" and sequence is None:
                sequence = inner - column
            pending.append((child, inner))
    return YamlStyle(newline_of(text), 2 if mapping is None else mapping, 2 if sequence is None else sequence)
