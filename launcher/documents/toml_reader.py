"""Reads a TOML text strictly and keeps the place of every header, key and value.

`tomllib` decides what is valid and what it means; the scanner here may therefore be lax and only finds places.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import tomlkit

from ..errors import DocumentError
from .limits import MAX_DEPTH, check_size, document_error
from .model import Path, Value, show
from .spans import Entry, Node

COMMENT = re.compile(r"#[^\n\r]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r'[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'")
_SCALAR = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""("{0,2})|' + r"'''(?:[^']|'(?!''))*'''('{0,2})|"
    r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|\d{4}-\d{2}-\d{2} \d{2}:[^\s,\]}#]+|[^\s,\]}#]+",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Section:
    """A `[table]` or `[[item of a list]]` header: from its bracket to the other one. The root's is empty, at 0."""

    path: Path
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pair:
    """`key = value`, with the whole path of the key, and the header that it stands under."""

    path: Path
    start: int
    node: Node
    section: Section


@dataclass(frozen=True, slots=True)
class TomlText:
    value: dict[str, Value]
    sections: tuple[Section, ...]
    pairs: tuple[Pair, ...]


def read(text: str) -> TomlText:
    """Reads a text without BOM. Raises DocumentError with the line."""
    check_size(text)
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _second_key(text) or _decode_error(str(error), text) from error
    except (ValueError, RecursionError) as error:  # a number of too many digits; brackets thousands deep
        raise document_error(f"a value that cannot be read ({error})", text, 0) from error
    scanner = _Scanner(text)
    scanner.scan()
    return TomlText(value, tuple(scanner.sections), tuple(scanner.pairs))


def read_tomlkit(text: str) -> Value:
    """The value as a reader independent of the one that the editor uses reads it; ValueError if it does not."""
    return tomlkit.parse(text.removeprefix("\ufeff")).unwrap()


def _second_key(text: str) -> DocumentError | None:
    """The first key that is given again, or given a table's place: `tomllib` names neither it nor where it stands."""
    scanner = _Scanner(text)
    with suppress(DocumentError, IndexError):  # what is wrong may be something else, which `tomllib` tells
        scanner.scan()
    values: set[Path] = set()
    tables: set[Path] = set()
    for place in sorted((*scanner.sections, *scanner.pairs), key=lambda place: place.start):
        above = {place.path[:length] for length in range(1, len(place.path))}
        taken = above & values
        if isinstance(place, Pair):
            taken |= {place.path} & (values | tables)
            values.add(place.path)
        else:
            taken |= {place.path} & values
        if taken:
            fact = f"the key {show(min(taken, key=len))!r} stands here a second time"
            return document_error(fact, text, place.start)
        tables |= above if isinstance(place, Pair) else {*above, place.path}
    return None


def _decode_error(message: str, text: str) -> DocumentError:
    found = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", message, re.DOTALL)
    if found is None or found[2] is None:
        return document_error(found[1] if found else message, text, len(text))
    return DocumentError(found[1], int(found[2]), int(found[3]))


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.sections = [Section((), 0, 0)]
        self.pairs: list[Pair] = []
        self.last_items: dict[Path, int] = {}

    def scan(self) -> None:
        self.skip(_BLANK)
        while self.position < len(self.text):
            if self.text[self.position] == "[":
                self.header()
            else:
                start, section = self.position, self.sections[-1]
                path = (*section.path, *self.keys())
                self.pairs.append(Pair(path, start, self.value(len(path)), section))
            self.skip(_BLANK)

    def fail(self, fact: str) -> NoReturn:
        raise document_error(fact, self.text, self.position)

    def skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.position)
        self.position = found.end() if found else self.position

    def take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.position)
        if found is None:
            self.fail("this is written in a way that is not edited here")
        self.position = found.end()
        return found.group()

    def header(self) -> None:
        start = self.position
        item = self.text.startswith("[[", start)
        self.position += 2 if item else 1
        keys = self.keys()
        self.position += 2 if item else 1
        path: Path = ()
        for index, key in enumerate(keys):
            path = (*path, key)
            if item and index == len(keys) - 1:
                self.last_items[path] = self.last_items.get(path, -1) + 1
            if path in self.last_items:
                path = (*path, self.last_items[path])
        self.sections.append(Section(path, start, self.position))

    def keys(self) -> tuple[str, ...]:
        """A dotted key; moves past it and past the `=` or up to the bracket that ends it."""
        keys: list[str] = []
        while True:
            self.skip(_SPACE)
            token = self.take(_KEY)
            keys.append(_unquoted(token))
            self.skip(_SPACE)
            if self.text[self.position] != ".":
                break
            self.position += 1
        if len(keys) > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")
        if self.text[self.position] == "=":
            self.position += 1
            self.skip(_SPACE)
        return tuple(keys)

    def value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")
        start = self.position
        if self.text[start] == "[":
            return self.bracketed("]", "list", depth)
        if self.text[start] == "{":
            return self.bracketed("}", "mapping", depth)
        self.take(_SCALAR)
        return Node(start, self.position, "scalar")

    def bracketed(self, closing: str, kind: str, depth: int) -> Node:
        start = self.position
        entries: list[Entry] = []
        self.position += 1
        self.skip(_BLANK)
        while self.text[self.position] != closing:
            begin = self.position
            # a dotted key in an inline table gets a name that no path can have: what it makes is not one node
            key = len(entries) if kind == "list" else "\0".join(self.keys())
            node = self.value(depth + 1)
            self.skip(_BLANK)
            comma = self.position if self.text[self.position] == "," else None
            self.position += comma is not None
            entries.append(Entry(key, begin, node, comma))
            self.skip(_BLANK)
        self.position += 1
        return Node(start, self.position, kind, tuple(entries))


def _unquoted(token: str) -> str:
    if token[0] not in "\"'":
        return token
    found: dict[str, Any] = tomllib.loads(f"key = {token}")
    return found["key"]
