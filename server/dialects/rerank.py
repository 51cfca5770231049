"""`POST /v1/rerank`, in the words that Cohere and Jina share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import unpack
from typing import Annotated

import msgspec

from ..requests import RerankRequest
from . import wire
from .sse import encode, response_id
from .wire import Ignored, Object

MAX_DOCUMENTS = 1000


class Document(msgspec.Struct):
    text: str


class Body(msgspec.Struct, kw_only=True):
    model: str
    query: Annotated[str, msgspec.Meta(min_length=1)]
    documents: Annotated[list[str | Document], msgspec.Meta(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    return_documents: bool | None = None
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    request: RerankRequest
    top_n: int | None
    has_documents: bool

    def encode_answer(self, scores: Sequence[bytes], num_tokens: int) -> bytes:
        """`scores` holds one little-endian float32 for each document; the best is told first."""
        found: list[tuple[float, int]] = [(unpack("<f", score)[0], -index) for index, score in enumerate(scores)]
        best = sorted(found, reverse=True)[: self.top_n]
        return encode(
            {
                "id": response_id("rerank-", self.request.request_id),
                "model": self.request.model,
                "results": [self._result(-number, score) for score, number in best],
                "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
            }
        )

    def _result(self, index: int, score: float) -> Object:
        result: Object = {"index": index, "relevance_score": score}
        if self.has_documents:
            result["document"] = {"text": self.request.documents[index]}
        return result


def decode(body: bytes, request_id: str) -> Call:
    """The call a body asks for. Raises `InvalidRequest`."""
    fields = wire.decode_body(body, Body)
    ignored = Ignored()
    ignored.add_unknown_fields(body, Body)
    ignored.log(request_id)
    documents = tuple(each if isinstance(each, str) else each.text for each in fields.documents)
    request = RerankRequest(request_id, fields.model, fields.query, documents, fields.instruction or "")
    return Call(request, fields.top_n, bool(fields.return_documents))
