"""The OpenAI Embeddings API: `POST /v1/embeddings`."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, unpack
from typing import Annotated, Any

import msgspec

from ..errors import InvalidRequest
from ..requests import EmbeddingRequest
from . import wire
from .sse import encode
from .wire import Ignored

MAX_INPUTS = 2048
_ENCODINGS = ("float", "base64")


class Body(msgspec.Struct, kw_only=True):
    model: str
    input: str | Annotated[list[Any], msgspec.Meta(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: str | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    request: EmbeddingRequest
    as_base64: bool

    def encode_answer(self, vectors: Sequence[bytes], num_tokens: int) -> bytes:
        """`vectors` are little-endian float32, which is also what the API's base64 holds."""
        data = [
            {"object": "embedding", "index": index, "embedding": self._embedding(vector)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
        return encode({"object": "list", "data": data, "model": self.request.model, "usage": usage})

    def _embedding(self, vector: bytes) -> str | list[float]:
        if self.request.dimensions is not None:
            vector = _shortened(vector, self.request.dimensions)
        if self.as_base64:
            return base64.b64encode(vector).decode()
        return list(unpack(f"<{len(vector) // 4}f", vector))


def decode(body: bytes, request_id: str) -> Call:
    """The call a body asks for. Raises `InvalidRequest`."""
    fields = wire.decode_body(body, Body)
    ignored = Ignored()
    ignored.add_unknown_fields(body, Body)
    ignored.log(request_id)
    form = fields.encoding_format or "float"
    if form not in _ENCODINGS:
        raise InvalidRequest(f"{form!r} is not one of {', '.join(_ENCODINGS)}", "encoding_format")
    request = EmbeddingRequest(request_id, fields.model, _inputs(fields.input), fields.dimensions)
    return Call(request, form == "base64")


def _inputs(given: str | list[Any]) -> tuple[str | tuple[int, ...], ...]:
    """A text, a list of token ids, or a list of either."""
    if isinstance(given, str) or isinstance(given[0], int):
        given = [given]
    return tuple(_input(one, f"input.{index}") for index, one in enumerate(given))


def _input(one: Any, path: str) -> str | tuple[int, ...]:
    if not isinstance(one, str | list):
        raise InvalidRequest("must be a text or a list of token ids", path)
    if not one:
        raise InvalidRequest("must not be empty", path)
    return one if isinstance(one, str) else tuple(wire.convert(one, list[wire.TokenId], path))


def _shortened(vector: bytes, dimensions: int) -> bytes:
    """The first numbers, made of unit length again, as models trained for it (Matryoshka) want it."""
    width = len(vector) // 4
    if dimensions > width:
        raise InvalidRequest(f"{dimensions} is more than the model's {width}", "dimensions")
    numbers = unpack(f"<{width}f", vector)[:dimensions]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return pack(f"<{dimensions}f", *(number / length for number in numbers))
