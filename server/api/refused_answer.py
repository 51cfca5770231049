"""The answer to what is refused before the application sees it, or while its body comes: that of any other error."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from litestar.types import Scope

from ..dialects import openai_chat
from ..errors import HeadTooLarge, RequestError, RequestTimeout
from .failures import dialect_of, id_headers, new_request_id
from .refusals import Refusals, Refused

_KINDS: dict[type[RequestError], Refused] = {HeadTooLarge: Refused.LARGE_HEAD, RequestTimeout: Refused.SLOW}


def refused_answer(
    refusals: Refusals, error: RequestError, scope: Scope | None, client: str, headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """A whole HTTP/1.1 answer, `headers` among its own, after which the connection closes.

    `scope` is that of the request where its head was read. `refusals` are told of it, and of the `client`'s address,
    unless that is empty.
    """
    request_id = new_request_id()
    if scope is not None:
        request_id = scope.setdefault("state", {}).setdefault("request_id", request_id)
    if client:
        refusals.note(_KINDS.get(type(error), Refused.MALFORMED), f"{client} ({request_id})")
    body = (openai_chat if scope is None else dialect_of(scope)).encode_error(error, request_id)
    told = {"content-type": "application/json", "content-length": str(len(body)), **id_headers(request_id)}
    told["connection"] = "close"
    lines = [b"HTTP/1.1 %d %b" % (error.status, HTTPStatus(error.status).phrase.encode())]
    lines += [b"%b: %b" % header for header in headers]
    lines += [f"{name}: {value}".encode() for name, value in told.items()]
    return b"\r\n".join([*lines, b"", body])
