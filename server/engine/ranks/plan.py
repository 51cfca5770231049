"""What rank 0 tells the others: the calls of `BatchEngine` it is about to make, in order."""

from __future__ import annotations

import msgspec

from ..messages import Submit
from ..speculation import Draft


class Open(msgspec.Struct, frozen=True, array_like=True, tag=0):
    request: Submit


class Prefill(msgspec.Struct, frozen=True, array_like=True, tag=1):
    request_id: str
    count: int


class Decode(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """`drafts` are the guesses that rows are fed behind their last token."""

    drafts: dict[str, Draft]


class Release(msgspec.Struct, frozen=True, array_like=True, tag=3):
    request_id: str


class Sleep(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Nothing is to be computed until rank 0 wakes the others. Waiting in a collective would keep a core busy."""


class Close(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The last there is."""


class BoundPrefixes(msgspec.Struct, frozen=True, array_like=True, tag=6):
    num_bytes: int


class PrefillTogether(msgspec.Struct, frozen=True, array_like=True, tag=7):
    counts: dict[str, int]


Call = Open | Prefill | PrefillTogether | Decode | Release | Sleep | Close | BoundPrefixes

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Call])


def encode(calls: list[Call]) -> bytes:
    return _encoder.encode(calls)


def decode(payload: bytes) -> list[Call]:
    """Raises `msgspec.MsgspecError` for what `encode` did not write."""
    return _decoder.decode(payload)
