"""Edits of TOML texts: the new fragment is spliced in, and every other line keeps its bytes.

`tomlkit` would put a new key below the comment that announces the next table, and a table between two dotted keys;
so places are found here, and `tomlkit` is the second reader that every edit must convince.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DocumentError, EditError
from . import spans
from .limits import document_error
from .model import ABSENT, Path, Value, first_missing, get
from .spans import Entry, Node, Replacement, after_line_comments, line_end, line_start, newline_of, splice
from .toml_reader import COMMENT, Pair, Section, read
from .toml_text import dotted, inline, list_item, sections


class TomlDocument:
    """One text. `set` and `delete` want parents that exist, and return the new text."""

    def __init__(self, text: str, newline: str | None = None) -> None:
        self._bom = "\ufeff" if text.startswith("\ufeff") else ""
        self.text = text.removeprefix("\ufeff")
        parsed = read(self.text)
        self.value: Value = parsed.value
        self._sections = parsed.sections
        self._pairs = parsed.pairs
        self._newline = newline or newline_of(self.text)

    def set(self, path: Path, value: Value) -> str:
        return self._bom + self._set(path, value)

    def delete(self, path: Path) -> str:
        return self._bom + self._delete(path)

    def error_at(self, path: Path, fact: str) -> DocumentError:
        pair = self._pair_above(path)
        header = next((section for section in self._sections if section.path[: len(path)] == path), None)
        place = pair or header
        return document_error(fact, self.text, place.start if place else 0)

    def _set(self, path: Path, value: Value) -> str:
        if not path:
            raise EditError("a TOML document is always a table")
        pair = self._pair_above(path)
        if pair is not None:
            return self._set_inline(pair, path, value)
        if get(self.value, path) is not ABSENT:
            return TomlDocument(self._delete(path), self._newline)._set(path, value)
        parent, key = path[:-1], path[-1]
        if isinstance(key, int):
            if not isinstance(value, dict):
                raise EditError(f"this list's items are tables, {value!r:.40} is none")
            return self._add_sections(parent, list_item(parent, value, self._newline))
        dotted_pair = self._dotted_pair_in(parent)
        if dotted_pair is not None:
            return self._add_pair(dotted_pair.section, path, value, after=dotted_pair)
        if isinstance(value, dict) and value:
            return self._add_sections(parent, sections(path, value, self._newline))
        section = next((section for section in self._sections if section.path == parent), None)
        if section is None:
            return self._add_sections(parent, sections(parent, {key: value}, self._newline))
        return self._add_pair(section, path, value)

    def _pair_above(self, path: Path) -> Pair | None:
        """The pair whose value is at `path` or around it."""
        return next((pair for pair in self._pairs if pair.path == path[: len(pair.path)]), None)

    def _dotted_pair_in(self, parent: Path) -> Pair | None:
        """The last pair that makes `parent` a table by its dots, as `a.b = 1` does with `a`."""
        found = [
            pair
            for pair in self._pairs
            if len(pair.section.path) < len(parent) < len(pair.path) and pair.path[: len(parent)] == parent
        ]
        return found[-1] if found else None

    def _set_inline(self, pair: Pair, path: Path, value: Value) -> str:
        if pair.path == path:
            return self._replaced(pair.node, value)
        parent = self._inner(pair, path[:-1])
        key = path[-1]
        entry = parent.entry(key)
        if entry is not None:
            return self._replaced(entry.node, value)
        prefix = f"{dotted((key,))} = " if isinstance(key, str) else ""
        if parent.entries:
            return spans.insert(self.text, parent, lambda _: prefix + inline(value), COMMENT)
        return spans.fill(self.text, parent, lambda _: prefix + inline(value), None, "")

    def _inner(self, pair: Pair, path: Path) -> Node:
        node = pair.node
        for key in path[len(pair.path) :]:
            entry: Entry | None = node.entry(key)
            if entry is None:
                raise EditError(f"{key!r} is not there by itself (dotted keys may bring it)")
            node = entry.node
        return node

    def _replaced(self, node: Node, value: Value) -> str:
        old = self.text[node.start : node.start + 3]
        quote = old[:1] if old not in ('"""', "'''") else ""
        return splice(self.text, [(node.start, node.end, inline(value, quote))])

    def _add_pair(self, section: Section, path: Path, value: Value, after: Pair | None = None) -> str:
        line = f"{dotted(path[len(section.path) :])} = {inline(value)}"
        own = [after] if after else [pair for pair in self._pairs if pair.section is section]
        if own:
            start = own[-1].start
            indent = self.text[line_start(self.text, start) : start]
            return self._add_line(own[-1].node.end, indent + line)
        return self._add_line(section.end, line) if section.path else self._add_first_pair(line)

    def _add_line(self, position: int, line: str) -> str:
        point = after_line_comments(self.text, position, COMMENT)
        return splice(self.text, [(point, point, self._newline + line)])

    def _add_first_pair(self, line: str) -> str:
        """The root's first pair: above the first header and the comment that belongs to it, else at the end."""
        if len(self._sections) == 1:
            lead = self._newline if self.text and not self.text.endswith("\n") else ""
            return self.text + lead + line + self._newline
        point = line_start(self.text, self._sections[1].start)
        while point > 0 and self.text[line_start(self.text, point - 1) : point].strip():
            point = line_start(self.text, point - 1)
        return splice(self.text, [(point, point, line + self._newline * 2)])

    def _add_sections(self, parent: Path, lines: str) -> str:
        """Below the last header that is part of `parent`; a new top-level table at the end of the file."""
        inside = [section for section in self._sections[1:] if section.path[: len(parent)] == parent]
        if parent and inside:
            pairs = [pair for pair in self._pairs if pair.section is inside[-1]]
            end = pairs[-1].node.end if pairs else inside[-1].end
            point = after_line_comments(self.text, end, COMMENT)
            return splice(self.text, [(point, point, self._newline * 2 + lines)])
        if not self.text.strip():
            return self.text + lines + self._newline
        if self.text.endswith("\n"):
            return self.text + self._newline + lines + self._newline
        return self.text + self._newline * 2 + lines

    def _delete(self, path: Path) -> str:
        pair = self._pair_above(path)
        if pair is not None and pair.path != path:
            return spans.remove(self.text, self._inner(pair, path[:-1]), path[-1])
        cuts = [self._line_cut(pair.start, pair.node.end) for pair in self._pairs if pair.path[: len(path)] == path]
        headers = [section for section in self._sections[1:] if section.path[: len(path)] == path]
        cuts += [self._header_cut(section) for section in headers]
        new = splice(self.text, _joined(cuts))
        return self._with_parent(new, path)

    def _with_parent(self, text: str, path: Path) -> str:
        """The text with the (now empty) table or list around `path`, should it have gone with its last entry."""
        document = TomlDocument(text, self._newline)
        missing = first_missing(document.value, path[:-1])
        if missing is None:
            return text
        value: Value = [] if isinstance(path[-1], int) else {}
        for key in reversed(path[missing:-1]):
            value = {key: value} if isinstance(key, str) else [value]
        return document._set(path[:missing], value)

    def _line_cut(self, start: int, end: int) -> Replacement:
        """The whole line or lines; a comment at the end stays."""
        comment_end = after_line_comments(self.text, end, COMMENT)
        if comment_end > end:
            return start, comment_end, self.text[end:comment_end].lstrip()
        begin, stop = line_start(self.text, start), line_end(self.text, end)
        if stop < len(self.text):
            return begin, self.text.index("\n", stop) + 1, ""
        return max(begin - len(self._newline), 0), stop, ""

    def _header_cut(self, section: Section) -> Replacement:
        """As a line's, with the blank line before it."""
        start, end, comment = self._line_cut(section.start, section.end)
        above = line_start(self.text, max(start - 1, 0))
        blank = start > 0 and self.text[start - 1] == "\n" and not self.text[above:start].strip()
        return (above if blank and not comment else start), end, comment


def _joined(cuts: Sequence[Replacement]) -> list[Replacement]:
    """The cuts without the overlap that the last lines of a file without a final line end have."""
    joined: list[Replacement] = []
    for start, end, new in sorted(cuts):
        joined.append((max(start, joined[-1][1]) if joined else start, end, new))
    return joined
