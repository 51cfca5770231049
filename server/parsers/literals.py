"""Values written almost as JSON, translated to JSON as they come: other quotes, bare keys, Python's constants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .calls import ObjectWriter
from .source import Reading, Source
from .value_text import value_text

_CONSTANTS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "\n": ""}
_HEXADECIMAL = {"x": 2, "u": 4, "U": 8}
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_MAX_DEPTH = 100
_CLOSING = {"[": "]", "(": ")", "{": "}"}


@dataclass(frozen=True, slots=True)
class LiteralSyntax:
    """`closes` and `opens` are the marks of the calls around the values, as in `value_text`."""

    quotes: Sequence[str]
    has_escapes: bool
    closes: Sequence[str]
    opens: Sequence[str]


def literal(source: Source, writer: ObjectWriter, syntax: LiteralSyntax, depth: int = 0) -> Reading[bool]:
    """Translate one value; whether it came to its end. What is written is JSON as far as it goes."""
    yield from source.skip_space()
    quote = yield from source.accept(*syntax.quotes)
    if quote:
        return (yield from _string(source, writer, syntax, quote))
    bracket = yield from source.accept("[", "(", "{")
    if bracket and depth < _MAX_DEPTH:
        return (yield from _container(source, writer, syntax, bracket, depth))
    return (yield from _scalar(source, writer, syntax))


def _string(source: Source, writer: ObjectWriter, syntax: LiteralSyntax, quote: str) -> Reading[bool]:
    writer.quote()
    ends = [quote, "\\"] if syntax.has_escapes else [quote]
    while True:
        end = yield from value_text(source, writer.characters, ends, syntax.closes, syntax.opens)
        if end != "\\":
            writer.quote()
            return end == quote
        writer.characters((yield from _escape(source)))


def _escape(source: Source) -> Reading[str]:
    first = yield from source.peek()
    source.take(len(first))
    if first in _HEXADECIMAL:
        digits = yield from source.peek(_HEXADECIMAL[first])
        if re.fullmatch(r"[0-9a-fA-F]+", digits) and len(digits) == _HEXADECIMAL[first]:
            source.take(len(digits))
            code = int(digits, 16)
            if 0xD800 <= code < 0xDC00 and (yield from source.peek(2)) == "\\u":
                low = (yield from source.peek(6))[2:]
                if re.fullmatch(r"[dD][c-fC-F][0-9a-fA-F]{2}", low):
                    source.take(6)
                    return chr(0x10000 + ((code - 0xD800) << 10) + int(low, 16) - 0xDC00)
            return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
    return _ESCAPES.get(first, first if first in "\\'\"/" else "\\" + first)


def _container(source: Source, writer: ObjectWriter, syntax: LiteralSyntax, bracket: str, depth: int) -> Reading[bool]:
    closing = _CLOSING[bracket]
    is_object = bracket == "{"
    writer.raw("{" if is_object else "[")
    is_first = True
    while True:
        yield from source.skip_space()
        if (yield from source.accept(closing)):
            writer.raw("}" if is_object else "]")
            return True
        if (yield from source.accept(",")):
            continue
        if (yield from at_end(source, syntax)):
            writer.raw("}" if is_object else "]")
            return False
        writer.raw("" if is_first else ", ")
        is_first = False
        if is_object:
            yield from _key(source, writer, syntax)
        if not (yield from literal(source, writer, syntax, depth + 1)):
            writer.raw("}" if is_object else "]")
            return False


def _key(source: Source, writer: ObjectWriter, syntax: LiteralSyntax) -> Reading[None]:
    quote = yield from source.accept(*syntax.quotes)
    if quote:
        yield from _string(source, writer, syntax, quote)
    else:
        text = yield from bare(source, ":,{}[]()", syntax)
        writer.value(text.strip())
    yield from source.skip_space()
    yield from source.accept(":")
    writer.raw(": ")


def _scalar(source: Source, writer: ObjectWriter, syntax: LiteralSyntax) -> Reading[bool]:
    text = (yield from bare(source, ",]})", syntax)).strip()
    if text in _CONSTANTS:
        writer.raw(_CONSTANTS[text])
    elif _NUMBER.fullmatch(text):
        writer.raw(text)
    else:
        writer.value(text or None)
    return bool(text) and not (yield from at_end(source, syntax))


def bare(source: Source, stops: str, syntax: LiteralSyntax) -> Reading[str]:
    """Text up to one of the characters `stops`, which is left, or to a mark."""
    text, marker = yield from source.text_until([*stops, *syntax.closes, *syntax.opens])
    source.unread(marker)
    return text


def at_end(source: Source, syntax: LiteralSyntax) -> Reading[bool]:
    """Whether a mark comes next, or nothing."""
    if not (yield from source.peek()):
        return True
    mark = yield from source.accept(*syntax.closes, *syntax.opens)
    source.unread(mark)
    return bool(mark)
