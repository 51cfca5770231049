"""Errors as responses, each in the shape of the dialect whose path was asked."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from uuid import uuid4

from litestar import MediaType, Request, Response
from litestar.datastructures import MutableScopeHeaders
from litestar.exceptions import HTTPException
from litestar.types import Message, Scope, Send

from ..dialects import anthropic_messages, openai_chat
from ..dialects.base import Dialect
from ..errors import (
    BodyTooLarge,
    CorruptModel,
    EngineFailure,
    InvalidRequest,
    ModelError,
    NotFound,
    OmlxError,
    Overloaded,
    RequestError,
    RequestFailed,
    ServiceError,
    UnsupportedModel,
)
from .keys import Holder

logger = logging.getLogger(__name__)

HOLDER = "holder"
"""Where the guard leaves it in the scope's state."""

_MODELS = "/v1/models"
_MESSAGES = re.compile(r"(/anthropic|/v1)?/v1/messages\b")


def new_request_id() -> str:
    return f"req_{uuid4().hex}"


def request_id_of(request: Request) -> str:
    """The id of this request, made when it is first asked for: the log and the client get the same one."""
    return request.scope["state"].setdefault("request_id", new_request_id())


def holder_of(request: Request) -> Holder:
    """Whom the guard let in."""
    return request.scope["state"].get(HOLDER) or Holder()


def id_headers(request_id: str) -> dict[str, str]:
    """The request's id under the names the two SDKs read."""
    return {"request-id": request_id, "x-request-id": request_id}


async def identify(message: Message, scope: Scope) -> None:
    """Put the request's id on every answer: a hook before the application sends."""
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in id_headers(scope["state"].setdefault("request_id", new_request_id())).items():
            headers[name] = value


def is_anthropic(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"anthropic-version" for name, _ in headers)


def dialect_of(scope: Scope) -> Dialect:
    """The dialect that errors are told in; clients join `/v1` and `/anthropic` in their own ways."""
    path = scope["path"]
    lists_models = path == _MODELS or path.startswith(f"{_MODELS}/")
    if _MESSAGES.match(path) or (lists_models and is_anthropic(scope["headers"])):
        return anthropic_messages
    return openai_chat


def error_response(error: OmlxError, request: Request) -> Response[bytes]:
    body = dialect_of(request.scope).encode_error(error, request_id_of(request))
    return Response(body, status_code=_status(error), headers=_retry_headers(error), media_type=MediaType.JSON)


async def send_error(error: OmlxError, scope: Scope, send: Send) -> None:
    """The same response, for code that stands before Litestar."""
    request_id = scope.get("state", {}).get("request_id") or new_request_id()
    body = dialect_of(scope).encode_error(error, request_id)
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    headers |= id_headers(request_id) | _retry_headers(error)
    raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": _status(error), "headers": raw_headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def on_omlx_error(request: Request, error: OmlxError) -> Response[bytes]:
    return error_response(error, request)


def on_model_error(request: Request, error: ModelError) -> Response[bytes]:
    """The model's folder cannot be used. No 503: clients would ask again, and waiting does not mend it."""
    remedies = {CorruptModel: "; mend the folder, or fetch the model again", UnsupportedModel: "; choose another model"}
    return on_omlx_error(request, InvalidRequest(f"{error}{remedies.get(type(error), '')}", "model"))


def on_http_exception(request: Request, error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals: no such route, a wrong method, a body over the limit."""
    if error.status_code == BodyTooLarge.status:
        return on_omlx_error(request, BodyTooLarge("the request body is too large"))
    if error.status_code in (404, 405):
        return on_omlx_error(request, NotFound(f"no such endpoint: {request.method} {request.url.path}"))
    if error.status_code < 500:
        return on_omlx_error(request, _of_litestar(error))
    return on_bug(request, error)


def on_bug(request: Request, error: Exception) -> Response[bytes]:
    """Anything not raised on purpose: the log gets the details, the client a request id."""
    if isinstance(error, MemoryError):
        return on_omlx_error(request, Overloaded("there is no memory for this request now; try again shortly"))
    request_id = request_id_of(request)
    logger.error("request %s: %s %r failed", request_id, request.method, request.url.path, exc_info=error)
    failure = EngineFailure(f"internal error; look for {request_id} in the server's log")
    return error_response(failure, request)


def _of_litestar(error: HTTPException) -> InvalidRequest:
    """Its refusal of a query, with the name of the first parameter that is wrong."""
    faults = error.extra if isinstance(error.extra, list) else []
    fault = next((fault for fault in faults if isinstance(fault, dict) and fault.get("key")), None)
    return InvalidRequest(error.detail) if fault is None else InvalidRequest(str(fault["message"]), str(fault["key"]))


def _status(error: OmlxError) -> int:
    return error.status if isinstance(error, RequestError | ServiceError) else 500


def _retry_headers(error: OmlxError) -> dict[str, str]:
    if isinstance(error, RequestFailed):
        return {"x-should-retry": "false"}  # the SDKs send a request again twice after any other 500
    return {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
