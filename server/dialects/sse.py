"""Writing an answer: JSON bodies and records of an event stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"
_STAND_IN = "\ue0f8text\ue0f8"
"""Private use: in no name that a record repeats."""

_encoder = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """The value as compact JSON."""
    return _encoder.encode(value)


def data_record(value: Any) -> bytes:
    """A record without a name, as the chat and completions streams have them."""
    return b"data: " + _one_line(_encoder.encode(value)) + b"\n\n"


def named_record(event: str, value: Any) -> bytes:
    """A record with a name, as the Messages and Responses streams have them."""
    return b"event: " + event.encode() + b"\ndata: " + _one_line(_encoder.encode(value)) + b"\n\n"


class RecordTemplate:
    """A record in which one text changes: encoded once, and filled in for each token.

    `make` gives the record with a text in its place.
    """

    def __init__(self, make: Callable[[str], bytes]) -> None:
        self._before, self._after = make(_STAND_IN).split(encode(_STAND_IN))

    def fill(self, text: str) -> bytes:
        return self._before + _one_line(_encoder.encode(text)) + self._after


class NumberedTemplate(RecordTemplate):
    """A record whose first number changes too."""

    def __init__(self, make: Callable[[int, str], bytes]) -> None:
        super().__init__(lambda text: make(-1, text))
        self._head, self._before = self._before.split(b":-1,", 1)

    def fill_in(self, number: int, text: str) -> bytes:
        return b"%b:%d,%b" % (self._head, number, self.fill(text))


def _one_line(json: bytes) -> bytes:
    """Escape what JSON allows raw, and `str.splitlines`, with which clients cut streams, takes for an end of line."""
    if b"\xe2\x80" not in json and b"\xc2\x85" not in json:
        return json
    return (
        json.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029").replace(b"\xc2\x85", b"\\u0085")
    )


def response_id(prefix: str, request_id: str) -> str:
    """The answer's own id: `msg_x` for the request `req_x`."""
    return prefix + request_id.removeprefix("req_").removeprefix("req-")
