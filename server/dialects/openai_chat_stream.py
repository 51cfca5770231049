"""Answers of the Chat Completions API: its chunks and its whole body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import OmlxError
from ..events import (
    ChoiceFinished,
    Delta,
    Finished,
    FinishReason,
    Logprobs,
    PrefillProgress,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCallDelta,
    Usage,
)
from ..requests import ToolCall
from .base import Answer
from .openai_errors import error_object
from .openai_logprobs import chat_logprobs
from .sse import DONE, RecordTemplate, data_record, encode

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
    """The stream: for each choice a chunk with the role, one a delta, one with the finish reason; then one with the
    usage if asked. Log probabilities ride on the next chunk of their choice."""

    def __init__(self, head: Head, include_usage: bool, num_answers: int = 1) -> None:
        self._head = head
        self._include_usage = include_usage
        self._num_answers = num_answers
        self._progress: PrefillProgress | None = None
        self._bare_calls: dict[int, int] = {}
        """By choice: the call that has no arguments yet."""
        self._scores: dict[int, list[TokenScore]] = {}
        self._templates: dict[tuple[str, int], RecordTemplate] = {}
        """By field and choice."""

    def start(self, usage: Usage) -> bytes:
        del usage
        return b"".join(self._delta({"role": "assistant", "content": ""}, index) for index in range(self._num_answers))

    def feed(self, event: Delta | PrefillProgress) -> bytes:
        match event:
            case TextDelta(text, choice):
                return self._text("content", text, choice)
            case ReasoningDelta(text, choice):
                return self._text("reasoning_content", text, choice)
            case ToolCallDelta():
                return self._feed_call(event)
            case Logprobs(tokens, choice):
                self._scores.setdefault(choice, []).extend(tokens)
            case ChoiceFinished():
                return self._finish_choice(event)
            case PrefillProgress():
                self._progress = event
            case PromptLogprobs():
                pass
        return b""

    def heartbeat(self) -> bytes:
        chunk = self._chunk([])
        if self._progress is not None:
            chunk["prefill"] = self._progress
        return data_record(chunk)

    def finish(self, finished: Finished) -> bytes:
        records = b""
        if self._num_answers == 1:
            records = self._finish_choice(ChoiceFinished(0, finished.reason, finished.stop_sequence))
        if self._include_usage:
            records += data_record({**self._chunk([]), "usage": usage_object(finished.usage)})
        return records + DONE

    def error(self, error: OmlxError) -> bytes:
        return data_record({"error": error_object(error)}) + DONE

    def _finish_choice(self, ended: ChoiceFinished) -> bytes:
        choice = {"index": ended.choice, "delta": {}, **finish_fields(ended.reason, ended.stop_sequence)}
        records = self._close_bare_call(ended.choice)
        return records + data_record(self._chunk([choice | {"logprobs": self._take_scores(ended.choice)}]))

    def _feed_call(self, call: ToolCallDelta) -> bytes:
        bare = self._bare_calls.get(call.choice)
        records = self._close_bare_call(call.choice) if call.index != bare else b""
        has_arguments = bool(call.arguments) or (not call.name and call.choice not in self._bare_calls)
        if has_arguments:
            self._bare_calls.pop(call.choice, None)
        else:
            self._bare_calls[call.choice] = call.index
        return records + self._delta({"tool_calls": [_call_piece(call)]}, call.choice)

    def _close_bare_call(self, choice: int) -> bytes:
        """Give a call that ended without arguments the empty object: clients parse what they collected."""
        bare = self._bare_calls.pop(choice, None)
        if bare is None:
            return b""
        return self._delta({"tool_calls": [_call_piece(ToolCallDelta(bare, arguments="{}"))]}, choice)

    def _text(self, field: str, text: str, choice: int) -> bytes:
        if choice in self._scores:
            return self._delta({field: text}, choice)
        template = self._templates.get((field, choice))
        if template is None:
            template = self._templates[field, choice] = RecordTemplate(lambda text: self._delta({field: text}, choice))
        return template.fill(text)

    def _delta(self, delta: dict[str, Any], choice: int) -> bytes:
        logprobs = self._take_scores(choice)
        return data_record(
            self._chunk([{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": None}])
        )

    def _take_scores(self, choice: int) -> dict[str, Any] | None:
        tokens = self._scores.pop(choice, None)
        return None if tokens is None else chat_logprobs(tokens)

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


def encode_answer(head: Head, answer: Answer, has_logprobs: bool = False) -> bytes:
    choices = [_choice(index, choice, has_logprobs) for index, choice in enumerate(answer.choices)]
    return encode({**head.body("chat.completion", choices), "usage": usage_object(answer.usage)})


def _choice(index: int, answer: Answer, has_logprobs: bool) -> dict[str, Any]:
    calls = [_call(call) for call in answer.tool_calls]
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if calls else ""), "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if calls:
        message["tool_calls"] = calls
    choice = {"index": index, "message": message, **finish_fields(answer.reason, answer.stop_sequence)}
    if has_logprobs:
        choice["logprobs"] = chat_logprobs(answer.logprobs)
    return choice


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
