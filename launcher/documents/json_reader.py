"""A strict reader of JSON, JSONC and JSON5 that keeps the place of every value, key and comma.

JSONC is JSON with comments and trailing commas. JSON5 is as spec.json5.org has it. Duplicate keys are refused in all.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

from .limits import MAX_DEPTH, check_size, document_error
from .model import Value
from .spans import Entry, Node

JsonDialect: TypeAlias = Literal["json", "jsonc", "json5"]

COMMENT = re.compile(r"//[^\n\r]*|/\*.*?\*/", re.DOTALL)
COMMENT_JSON5 = re.compile(r"//[^\n\r\u2028\u2029]*|/\*.*?\*/", re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
_STRING_JSON5 = re.compile(r'"(?:[^"\\\r\n]++|\\(?:\r\n|[^1-9]))*+"' + r"|'(?:[^'\\\r\n]++|\\(?:\r\n|[^1-9]))*+'")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_JSON5 = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F]+|Infinity|NaN|(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
)
_WORD = re.compile(r"(?:[\w$\u200c\u200d]|\\u[0-9a-fA-F]{4})+")
_ESCAPE_JSON5 = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(\r\n|[^xu]))")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_LINE_ENDS = ("\n", "\r", "\r\n", "\u2028", "\u2029")
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class JsonText:
    """What a text holds. `root` is None for a text of blanks and comments only, which counts as an empty object."""

    value: Value
    root: Node | None


def read(text: str, dialect: JsonDialect) -> JsonText:
    """Raises DocumentError with the line and column of the first thing that the dialect does not allow."""
    check_size(text)
    return _Reader(text, dialect).document()


class _Reader:
    def __init__(self, text: str, dialect: JsonDialect) -> None:
        self.text = text
        self.position = 1 if text.startswith("\ufeff") else 0
        self.dialect: JsonDialect = dialect
        self.json5 = dialect == "json5"
        self.string = _STRING_JSON5 if self.json5 else _STRING
        self.number = _NUMBER_JSON5 if self.json5 else _NUMBER

    def document(self) -> JsonText:
        self.skip()
        if self.position == len(self.text):
            return JsonText({}, None)
        value, root = self.read_value(0)
        self.skip()
        if self.position < len(self.text):
            self.fail("there is more text after the value's end")
        return JsonText(value, root)

    def fail(self, fact: str, position: int | None = None) -> NoReturn:
        raise document_error(fact, self.text, self.position if position is None else position)

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def skip(self) -> None:
        """Move past blanks and comments."""
        while True:
            found = _SPACE.match(self.text, self.position)
            self.position = found.end() if found else self.position
            character = self.peek()
            if character == "/":
                self.skip_comment()
            elif self.json5 and character and (character in "\v\f\u2028\u2029\ufeff" or _is_space(character)):
                self.position += 1
            else:
                return

    def skip_comment(self) -> None:
        if self.dialect == "json":
            self.fail("JSON has no comments, and this file is read as plain JSON")
        found = (COMMENT_JSON5 if self.json5 else COMMENT).match(self.text, self.position)
        if found is None:
            self.fail("a comment is begun and not closed" if self.text.startswith("/*", self.position) else "stray '/'")
        self.position = found.end()

    def read_value(self, depth: int) -> tuple[Value, Node]:
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")
        character, start = self.peek(), self.position
        if character == "{":
            return self.read_object(depth)
        if character == "[":
            return self.read_array(depth)
        if character == '"' or (character == "'" and self.json5):
            value: Value = self.read_string()
        else:
            value = self.read_scalar(character)
        return value, Node(start, self.position, "scalar")

    def read_object(self, depth: int) -> tuple[Value, Node]:
        opened = self.position
        values: dict[str, Value] = {}
        entries: list[Entry] = []
        self.position += 1
        while self.next_entry("}", entries, opened):
            start = self.position
            key = self.read_key()
            if key in values:
                self.fail(f"the key {key!r} stands here a second time", start)
            self.skip()
            if self.peek() != ":":
                self.fail(f"expected ':' after the key {key!r}")
            self.position += 1
            self.skip()
            values[key], node = self.read_value(depth + 1)
            entries.append(self.with_comma(Entry(key, start, node)))
        return values, Node(opened, self.position, "mapping", tuple(entries))

    def read_array(self, depth: int) -> tuple[Value, Node]:
        opened = self.position
        values: list[Value] = []
        entries: list[Entry] = []
        self.position += 1
        while self.next_entry("]", entries, opened):
            start = self.position
            value, node = self.read_value(depth + 1)
            values.append(value)
            entries.append(self.with_comma(Entry(len(entries), start, node)))
        return values, Node(opened, self.position, "list", tuple(entries))

    def next_entry(self, closing: str, entries: list[Entry], opened: int) -> bool:
        """Whether an entry follows; moves past the closing bracket when none does."""
        self.skip()
        character = self.peek()
        if not character:
            self.fail(f"the file ends before this '{self.text[opened]}' is closed", opened)
        after_comma = bool(entries) and entries[-1].comma is not None
        if character != closing:
            if entries and not after_comma:
                self.fail(f"expected ',' or '{closing}'")
            return True
        if after_comma and self.dialect == "json":
            self.fail(f"JSON allows no comma before '{closing}', and this file is read as plain JSON")
        self.position += 1
        return False

    def with_comma(self, entry: Entry) -> Entry:
        self.skip()
        if self.peek() != ",":
            return entry
        self.position += 1
        return Entry(entry.key, entry.start, entry.node, self.position - 1)

    def read_key(self) -> str:
        character = self.peek()
        if character == '"' or (character == "'" and self.json5):
            return self.read_string()
        found = _WORD.match(self.text, self.position) if self.json5 else None
        if found is None:
            self.fail("expected a key in double quotes" if not self.json5 else "expected a key")
        word = re.sub(r"\\u([0-9a-fA-F]{4})", lambda escape: chr(int(escape[1], 16)), found.group())
        if not word.translate(_NAME_EXTRAS).isidentifier():
            self.fail(f"{found.group()!r} must stand in quotes to be a key")
        self.position = found.end()
        return word

    def read_string(self) -> str:
        found = self.string.match(self.text, self.position)
        if found is None:
            self.fail("this text is not closed on its line, or holds a control character or a bad escape")
        token = found.group()
        try:
            value = _decode_json5(token) if self.json5 else json.loads(token)
        except ValueError:
            self.fail("bad escape in this text")
        self.position = found.end()
        return value

    def read_scalar(self, character: str) -> Value:
        found = self.number.match(self.text, self.position)
        word = _WORD.match(self.text, self.position)
        if word is not None and word.group() in _WORDS:
            self.position = word.end()
            return _WORDS[word.group()]
        if found is None:
            self.fail(f"expected a value, not {character!r}" if character else "the file ends where a value should be")
        following = self.text[found.end() : found.end() + 1]
        if following and (following.isalnum() or following in "_$.\\"):
            self.fail(f"{found.group() + following!r} begins no value")
        try:
            value = number(found.group())
        except ValueError:
            self.fail("this number has too many digits")
        self.position = found.end()
        return value


_NAME_EXTRAS = {ord("$"): "_", 0x200C: "_", 0x200D: "_"}


def number(token: str) -> int | float:
    """The value of a number token of any of the dialects."""
    digits = token.lstrip("+-").lower()
    sign = -1 if token.startswith("-") else 1
    if digits.startswith("0x"):
        return sign * int(digits, 16)
    if digits in ("infinity", "nan") or any(mark in digits for mark in ".e"):
        return sign * float(digits)
    return sign * int(digits)


def _decode_json5(token: str) -> str:
    inner = token[1:-1]
    if "\\" not in inner:
        return inner
    if re.search(r"(?<!\\)(?:\\\\)*\\0[0-9]", inner):
        raise ValueError("an octal escape")

    def unescape(escape: re.Match[str]) -> str:
        code = escape[1] or escape[2]
        if code:
            return chr(int(code, 16))
        character = escape[3]
        return "" if character in _LINE_ENDS else _ESCAPES.get(character, character)

    if re.search(r"(?<!\\)(?:\\\\)*\\(?:x(?![0-9a-fA-F]{2})|u(?![0-9a-fA-F]{4}))", inner):
        raise ValueError("a bad escape")
    plain = _ESCAPE_JSON5.sub(unescape, inner)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _is_space(character: str) -> bool:
    return unicodedata.category(character) == "Zs"
