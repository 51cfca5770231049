"""Answers of the Chat Completions API: its chunks and its whole body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import OmlxError
from ..events import Delta, Finished, FinishReason, PrefillProgress, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from ..requests import ToolCall
from .base import Answer
from .openai_errors import error_object
from .sse import DONE, data_record, encode

FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
}


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one answer repeats; `created` is in Unix seconds."""

    answer_id: str
    model: str
    created: int

    def body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.answer_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


class ChatEncoder:
    """The stream: a chunk with the role, one a delta, one with the finish reason, one with the usage if asked."""

    def __init__(self, head: Head, include_usage: bool) -> None:
        self._head = head
        self._include_usage = include_usage
        self._progress: PrefillProgress | None = None
        self._bare_call: int | None = None

    def start(self, usage: Usage) -> bytes:
        del usage
        return self._delta({"role": "assistant", "content": ""})

    def feed(self, event: Delta | PrefillProgress) -> bytes:
        match event:
            case TextDelta(text):
                return self._delta({"content": text})
            case ReasoningDelta(text):
                return self._delta({"reasoning_content": text})
            case ToolCallDelta():
                return self._feed_call(event)
            case PrefillProgress():
                self._progress = event
        return b""

    def heartbeat(self) -> bytes:
        chunk = self._chunk([])
        if self._progress is not None:
            chunk["prefill"] = self._progress
        return data_record(chunk)

    def finish(self, finished: Finished) -> bytes:
        choice = {"index": 0, "delta": {}, **finish_fields(finished.reason, finished.stop_sequence)}
        records = self._close_bare_call() + data_record(self._chunk([choice]))
        if self._include_usage:
            records += data_record({**self._chunk([]), "usage": usage_object(finished.usage)})
        return records + DONE

    def error(self, error: OmlxError) -> bytes:
        return data_record({"error": error_object(error)}) + DONE

    def _feed_call(self, call: ToolCallDelta) -> bytes:
        records = self._close_bare_call() if call.index != self._bare_call else b""
        has_arguments = bool(call.arguments) or (not call.name and self._bare_call is None)
        self._bare_call = None if has_arguments else call.index
        return records + self._delta({"tool_calls": [_call_piece(call)]})

    def _close_bare_call(self) -> bytes:
        """Give a call that ended without arguments the empty object: clients parse what they collected."""
        if self._bare_call is None:
            return b""
        piece = ToolCallDelta(self._bare_call, arguments="{}")
        self._bare_call = None
        return self._delta({"tool_calls": [_call_piece(piece)]})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return data_record(self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]))

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        chunk = self._head.body("chat.completion.chunk", choices)
        if self._include_usage:
            chunk["usage"] = None
        return chunk


def _call_piece(call: ToolCallDelta) -> dict[str, Any]:
    function = {"arguments": call.arguments}
    if not call.name:
        return {"index": call.index, "function": function}
    return {
        "index": call.index,
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, **function},
    }


def encode_answer(head: Head, answer: Answer) -> bytes:
    calls = [_call(call) for call in answer.tool_calls]
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if calls else ""), "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, **finish_fields(answer.reason, answer.stop_sequence)}
    return encode({**head.body("chat.completion", [choice]), "usage": usage_object(answer.usage)})


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def finish_fields(reason: FinishReason, stop_sequence: str) -> dict[str, Any]:
    """How a choice ends. The API does not say which stop sequence was met; `stop_reason` does, as elsewhere."""
    fields: dict[str, Any] = {"logprobs": None, "finish_reason": FINISH_REASONS[reason]}
    if reason is FinishReason.STOP_SEQUENCE:
        fields["stop_reason"] = stop_sequence
    return fields


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI counts inclusively: cached tokens are part of the prompt's."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_output_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.num_reasoning_tokens},
    }
