"""Answers of the Messages API: its stream, its whole body, its errors."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec

from ..errors import InvalidRequest, OmlxError, RequestError, ServiceError
from ..events import Delta, Finished, FinishReason, PrefillProgress, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from ..requests import ToolCall
from .base import Answer
from .json_object import ObjectText, object_text
from .sse import RecordTemplate, encode, named_record, response_id

_STOP_REASONS = {
    FinishReason.STOP: "end_turn",
    FinishReason.STOP_SEQUENCE: "stop_sequence",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
}

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}


class MessagesEncoder:
    """The stream: `message_start`, content blocks one after the other, `message_delta`, `message_stop`."""

    def __init__(self, request_id: str, model: str) -> None:
        self._request_id = request_id
        self._model = model
        self._index = -1
        self._open = ""
        self._call_index = -1
        self._reasoning: list[str] = []
        self._input: ObjectText
        """Of the open call."""
        self._progress: PrefillProgress | None = None
        self._text: RecordTemplate
        """Of the open block."""

    def start(self, usage: Usage) -> bytes:
        message = _message(self._request_id, self._model, [], None, "", usage)
        return named_record("message_start", {"type": "message_start", "message": message}) + self.heartbeat()

    def feed(self, event: Delta | PrefillProgress) -> bytes:
        match event:
            case TextDelta(text):
                return self._feed("text", {"type": "text", "text": ""}, text)
            case ReasoningDelta(text):
                block = {"type": "thinking", "thinking": "", "signature": ""}
                records = self._feed("thinking", block, text)
                self._reasoning.append(text)
                return records
            case ToolCallDelta():
                return self._feed_call(event)
            case PrefillProgress():
                self._progress = event
        return b""

    def heartbeat(self) -> bytes:
        ping: dict[str, Any] = {"type": "ping"}
        if self._progress is not None:
            ping["prefill"] = self._progress
        return named_record("ping", ping)

    def finish(self, finished: Finished) -> bytes:
        delta = {"stop_reason": _STOP_REASONS[finished.reason], "stop_sequence": finished.stop_sequence or None}
        event = {"type": "message_delta", "delta": delta, "usage": _usage(finished.usage)}
        return self._close() + named_record("message_delta", event) + named_record("message_stop", _MESSAGE_STOP)

    def error(self, error: OmlxError) -> bytes:
        return named_record("error", _error(error, self._request_id))

    def _feed(self, kind: str, block: dict[str, Any], text: str) -> bytes:
        if self._open == kind:
            return self._text.fill(text)
        records = self._close() + self._start_block(kind, block)
        self._text = RecordTemplate(lambda text: self._delta({"type": f"{kind}_delta", kind: text}))
        return records + self._text.fill(text)

    def _feed_call(self, call: ToolCallDelta) -> bytes:
        records = b""
        if self._open != "tool_use" or call.index != self._call_index:
            block = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}}
            records = self._close() + self._start_block("tool_use", block)
            self._call_index = call.index
            self._input = ObjectText()
        return records + self._input_delta(self._input.feed(call.arguments))

    def _input_delta(self, piece: str) -> bytes:
        return self._delta({"type": "input_json_delta", "partial_json": piece}) if piece else b""

    def _start_block(self, kind: str, block: dict[str, Any]) -> bytes:
        self._index += 1
        self._open = kind
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        return named_record("content_block_start", event)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        event = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return named_record("content_block_delta", event)

    def _close(self) -> bytes:
        """End the open block: a thinking block with its signature, a call with what completes its object."""
        records = b""
        if not self._open:
            return records
        if self._open == "thinking":
            records = self._delta({"type": "signature_delta", "signature": sign("".join(self._reasoning))})
            self._reasoning.clear()
        elif self._open == "tool_use":
            records = self._input_delta(self._input.finish())
        self._open = ""
        event = {"type": "content_block_stop", "index": self._index}
        return records + named_record("content_block_stop", event)


_MESSAGE_STOP = {"type": "message_stop"}


def sign(reasoning: str) -> str:
    """The signature of a thinking block. Clients only hand it back; it proves nothing to anybody else."""
    return base64.b64encode(hashlib.sha256(b"omlx thinking\0" + reasoning.encode()).digest()).decode()


def encode_answer(request_id: str, model: str, answer: Answer) -> bytes:
    content = [_block(segment) for segment in answer.segments]
    stop_reason = _STOP_REASONS[answer.reason]
    return encode(_message(request_id, model, content, stop_reason, answer.stop_sequence, answer.usage))


def _block(segment: TextDelta | ReasoningDelta | ToolCall) -> dict[str, Any]:
    match segment:
        case TextDelta(text):
            return {"type": "text", "text": text}
        case ReasoningDelta(text):
            return {"type": "thinking", "thinking": text, "signature": sign(text)}
        case ToolCall(call_id, name, arguments):
            return {
                "type": "tool_use",
                "id": call_id,
                "name": name,
                "input": msgspec.Raw(object_text(arguments).encode()),
            }


def _message(
    request_id: str,
    model: str,
    content: list[dict[str, Any]],
    stop_reason: str | None,
    stop_sequence: str,
    usage: Usage,
) -> dict[str, Any]:
    return {
        "id": response_id("msg_", request_id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence or None,
        "usage": _usage(usage),
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """Anthropic counts disjointly: the prompt is input plus cache creation plus cache read."""
    return {
        "input_tokens": usage.num_prompt_tokens - usage.num_cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.num_cached_tokens,
        "output_tokens": usage.num_output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.num_reasoning_tokens},
    }


def encode_error(error: OmlxError, request_id: str) -> bytes:
    return encode(_error(error, request_id))


def _error(error: OmlxError, request_id: str) -> dict[str, Any]:
    message = str(error)
    if isinstance(error, InvalidRequest) and error.param:
        message = f"{error.param}: {message}"
    status = error.status if isinstance(error, RequestError | ServiceError) else 500
    kind = _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
