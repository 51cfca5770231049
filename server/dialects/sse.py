"""Writing an answer: JSON bodies and records of an event stream."""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"

_encoder = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """The value as compact JSON."""
    return _encoder.encode(value)


def data_record(value: Any) -> bytes:
    """A record without a name, as the chat and completions streams have them."""
    return b"data: " + _encoder.encode(value) + b"\n\n"


def named_record(event: str, value: Any) -> bytes:
    """A record with a name, as the Messages and Responses streams have them."""
    return b"event: " + event.encode() + b"\ndata: " + _encoder.encode(value) + b"\n\n"


def response_id(prefix: str, request_id: str) -> str:
    """The answer's own id: `msg_x` for the request `req_x`."""
    return prefix + request_id.removeprefix("req_").removeprefix("req-")
