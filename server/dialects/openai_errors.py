"""Errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from ..errors import ContextOverflow, InvalidRequest, OmlxError, RequestError, ServiceError
from .sse import encode


def encode_error(error: OmlxError, request_id: str) -> bytes:
    """The body `{"error": …}`. The request's id goes in a header; the shape has no room for it."""
    del request_id
    return encode({"error": error_object(error)})


def error_object(error: OmlxError) -> dict[str, Any]:
    message = str(error)
    if isinstance(error, ContextOverflow):
        # Clients know an overflow by the code, by OpenAI's sentence or by Anthropic's: say all three.
        message = f"{message}. This model's maximum context length is {error.context_window} tokens."
    elif isinstance(error, InvalidRequest) and error.param:
        message = f"Invalid '{error.param}': {message}"
    if isinstance(error, RequestError):
        return {"message": message, "type": "invalid_request_error", "param": error.param, "code": error.code}
    code = error.code if isinstance(error, ServiceError) else "server_error"
    return {"message": message, "type": "server_error", "param": None, "code": code}
