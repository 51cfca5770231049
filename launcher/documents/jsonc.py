"""Edits of JSON, JSONC and JSON5 texts that touch only the entry concerned.

Comments, trailing commas, key order, quoting, indentation, BOM, line ends and the end of the file stay as they are.
"""

from __future__ import annotations

import json
import math
import re

from ..errors import DocumentError, EditError
from .json_reader import COMMENT, COMMENT_JSON5, JsonDialect, read
from .limits import document_error
from .model import Path, Value
from .spans import Entry, Node, fill, indent_before, indent_of_line, insert, newline_of, remove, splice, start_of

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


class JsonDocument:
    """One text. `set` and `delete` want parents that exist, and return the new text."""

    def __init__(self, text: str, dialect: JsonDialect) -> None:
        parsed = read(text, dialect)
        self.text = text
        self.value: Value = parsed.value
        self._root = parsed.root
        self._json5 = dialect == "json5"
        self._comment = COMMENT_JSON5 if self._json5 else COMMENT
        self._unit = self._find_unit()
        self._colon = ": " if self._root is None or not self._root.entries else self._find_colon(self._root.entries[0])
        self._quote, self._bare_keys = self._find_quotes()

    def set(self, path: Path, value: Value) -> str:
        if not path:
            return self._replace_root(value)
        parent, holder = self._node(path[:-1])
        key = path[-1]
        entry = parent.entry(key)
        if entry is not None:
            indent = indent_before(self.text, entry.start)
            return splice(self.text, [(entry.node.start, entry.end, self._emit(value, indent))])

        def member(indent: str | None) -> str:
            prefix = self._key(key) + self._colon if isinstance(key, str) else ""
            return prefix + self._emit(value, indent)

        if parent.entries:
            return insert(self.text, parent, member, self._comment, compact=self._colon == ":")
        # what is put into a collection that shares its line stays on that line too
        base = indent_before(self.text, holder.start) if holder else indent_of_line(self.text, parent.start)
        return fill(self.text, parent, member, base, self._unit)

    def delete(self, path: Path) -> str:
        return remove(self.text, self._node(path[:-1])[0], path[-1])

    def error_at(self, path: Path, fact: str) -> DocumentError:
        return document_error(fact, self.text, start_of(self._root, path))

    def _node(self, path: Path) -> tuple[Node, Entry | None]:
        """The value at `path`, and the entry that holds it."""
        if self._root is None:
            start = len(self.text)
            self.text += ("" if not self.text.strip("\ufeff \t\r\n") else newline_of(self.text)) + "{}\n"
            self._root = Node(self.text.index("{", start), len(self.text) - 1, "mapping")
        node, holder = self._root, None
        for key in path:
            holder = node.entry(key)
            if holder is None:
                raise EditError(f"{key!r} is not there")
            node = holder.node
        return node, holder

    def _replace_root(self, value: Value) -> str:
        node, _ = self._node(())
        return splice(self.text, [(node.start, node.end, self._emit(value, indent_of_line(self.text, node.start)))])

    def _find_unit(self) -> str:
        for entry in self._root.entries if self._root else ():
            indent = indent_before(self.text, entry.start)
            if indent:
                return indent.removeprefix(indent_of_line(self.text, self._root.start if self._root else 0)) or "  "
        return "  "

    def _find_colon(self, entry: Entry) -> str:
        return ": " if self.text[entry.node.start - 1] != ":" or not isinstance(entry.key, str) else ":"

    def _find_quotes(self) -> tuple[str, bool]:
        """The quotes of this file's first text, and whether its first key goes without."""
        if not self._json5:
            return '"', False
        entries = self._root.entries if self._root else ()
        keys = [self.text[entry.start] for entry in entries if isinstance(entry.key, str)]
        texts = [self.text[entry.node.start] for entry in entries]
        quotes = [character for character in texts + keys if character in "\"'"]
        return (quotes[0] if quotes else '"'), bool(keys) and keys[0] not in "\"'"

    def _key(self, key: str) -> str:
        return key if self._bare_keys and _NAME.fullmatch(key) else self._text(key)

    def _text(self, value: str) -> str:
        token = json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        token = _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", token)
        if self._quote == "'" and "'" not in value:
            token = "'" + token[1:-1].replace('\\"', '"') + "'"
        return token

    def _emit(self, value: Value, indent: str | None) -> str:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, float) and not math.isfinite(value):
            if not self._json5:
                raise EditError(f"JSON cannot hold {value}")
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        if isinstance(value, dict) and value:
            return self._emit_mapping(value, indent)
        if isinstance(value, list) and value:
            return self._emit_list(value, indent)
        try:
            return json.dumps(value, allow_nan=False)
        except TypeError as error:
            raise EditError(f"JSON cannot hold {value!r}") from error

    def _emit_mapping(self, value: dict[str, Value], indent: str | None) -> str:
        inner = None if indent is None else indent + self._unit
        members = [self._key(key) + self._colon + self._emit(item, inner) for key, item in value.items()]
        return self._bracketed("{", members, "}", indent)

    def _emit_list(self, value: list[Value], indent: str | None) -> str:
        if not any(isinstance(item, dict | list) for item in value):
            indent = None
        inner = None if indent is None else indent + self._unit
        return self._bracketed("[", [self._emit(item, inner) for item in value], "]", indent)

    def _bracketed(self, opening: str, members: list[str], closing: str, indent: str | None) -> str:
        if indent is None:
            return opening + ("," if self._colon == ":" else ", ").join(members) + closing
        newline = newline_of(self.text)
        inner = newline + indent + self._unit
        return opening + inner + ("," + inner).join(members) + newline + indent + closing
