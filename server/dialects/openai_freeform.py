"""The input of a freeform call, out of the arguments of the function that the call is to the model."""

from __future__ import annotations

import re

import msgspec

_INPUT = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_STRING = re.compile(r'(?:[^"\\]+|\\(?:u[0-9a-fA-F]{4}|[^u]))*')
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}


class FreeformInput:
    """Turns the arguments `{"input": "…"}`, piece by piece, into the text of the input."""

    def __init__(self) -> None:
        self._unread = ""
        self._is_open = False
        self._is_closed = False
        self._text: list[str] = []

    def feed(self, piece: str) -> str:
        """The part of the input that this piece of the arguments completes."""
        if self._is_closed:
            return ""
        self._unread += piece
        if not self._is_open:
            opening = _INPUT.match(self._unread)
            if opening is None:
                return ""
            self._is_open = True
            self._unread = self._unread[opening.end() :]
        return self._take()

    def finish(self) -> str:
        """What is left: of arguments that break off, or in another shape than the one asked for."""
        if self._is_closed:
            return ""
        text = _unescaped(self._unread) if self._is_open else _text_of(self._unread)
        self._is_closed = True
        self._text.append(text)
        return text

    @property
    def text(self) -> str:
        return "".join(self._text)

    def _take(self) -> str:
        found = _STRING.match(self._unread)
        assert found is not None
        escaped, rest = found[0], self._unread[found.end() :]
        self._is_closed = rest.startswith('"')
        half = _HIGH_SURROGATE.search(escaped)
        if half is not None and not self._is_closed:
            escaped, rest = escaped[: half.start()], half[0] + rest
        self._unread = rest
        text = _unescaped(escaped)
        if text:
            self._text.append(text)
        return text


def _unescaped(escaped: str) -> str:
    """The text of a JSON string's inside, raw line ends and escapes that JSON has not included: models write both."""
    if "\\" not in escaped:
        return escaped
    text = _ESCAPE.sub(_unescaped_one, escaped)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped_one(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _SHORT.get(escape[2], escape[0])


def _text_of(arguments: str) -> str:
    """The input in arguments that came in another shape: a lone text, the only text of an object, or bare."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        texts = [item for item in value.values() if isinstance(item, str)]
        if isinstance(value.get("input"), str):
            return value["input"]
        if len(texts) == 1:
            return texts[0]
    return arguments
