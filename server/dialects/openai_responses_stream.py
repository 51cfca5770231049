"""Answers of the Responses API. The whole body is what the stream's last event holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..errors import OmlxError, RequestError, RequestFailed
from ..events import (
    Delta,
    Finished,
    FinishReason,
    Logprobs,
    PrefillProgress,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from .openai_logprobs import TokensOfText
from .openai_responses_items import CustomCallItem, FunctionCallItem, MessageItem, OutputItem, ReasoningItem
from .openai_responses_tools import Toolbox
from .sse import NumberedTemplate, named_record
from .wire import Object


class ResponsesEncoder:
    """The stream: `response.created`, the items one after the other, then how it ended.

    `head` is the response object as far as the request fills it; `on_finish` is told the finished one.
    """

    def __init__(self, head: Object, toolbox: Toolbox, has_summary: bool, on_finish: Callable[[Object], None]) -> None:
        self._head = head
        self._toolbox = toolbox
        self._has_summary = has_summary
        self._on_finish = on_finish
        self._sequence_number = -1
        self._records: list[bytes] = []
        self._output: list[Object] = []
        self._item: OutputItem | None = None
        self._piece: NumberedTemplate | None = None
        """The open item's, once a piece of it has come."""
        self._call_index = -1
        self._progress: PrefillProgress | None = None
        self._tokens = TokensOfText()

    def start(self, usage: Usage) -> bytes:
        del usage
        response = self._response("in_progress")
        self._emit("response.created", {"response": response})
        self._emit("response.in_progress", {"response": response})
        return self._taken()

    def feed(self, event: Delta | PrefillProgress) -> bytes:
        match event:
            case PrefillProgress():
                self._progress = event
                return b""
            case Logprobs(tokens):
                self._tokens.add(tokens)
            case TextDelta(text) | ReasoningDelta(text):
                if not isinstance(self._item, MessageItem if isinstance(event, TextDelta) else ReasoningItem):
                    self._begin(self._text_item(event))
                tokens = self._tokens.take(text)
                if tokens and isinstance(self._item, MessageItem):
                    self._item.score(tokens)
                self._grow(text)
            case ToolCallDelta():
                if self._call_index != event.index:
                    self._begin(self._call_item(event))
                    self._call_index = event.index
                if event.arguments:
                    self._grow(event.arguments)
        return self._taken()

    def heartbeat(self) -> bytes:
        """Clients ignore comments, and Codex gives up after 300 s without an event."""
        fields: dict[str, Any] = {"response": self._response("in_progress")}
        if self._progress is not None:
            fields["prefill"] = self._progress
        self._emit("response.in_progress", fields)
        return self._taken()

    def finish(self, finished: Finished) -> bytes:
        is_complete = finished.reason is not FinishReason.LENGTH
        status = "completed" if is_complete else "incomplete"
        self._end(status)
        response = self._response(status) | {"usage": usage_object(finished.usage)}
        if is_complete:
            response["completed_at"] = int(time.time())
        else:
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        self._on_finish(response)
        self._emit(f"response.{status}", {"response": response})
        return self._taken()

    def error(self, error: OmlxError) -> bytes:
        code = error.code if isinstance(error, RequestError) else "server_error"
        if isinstance(error, RequestFailed):
            code = "invalid_prompt"  # of the API's codes the one after which Codex does not send the same again
        response = self._response("failed") | {"error": {"code": code, "message": str(error)}}
        self._emit("response.failed", {"response": response})
        return self._taken()

    def _text_item(self, event: TextDelta | ReasoningDelta) -> OutputItem:
        if isinstance(event, TextDelta):
            return MessageItem(self._item_id("msg"))
        return ReasoningItem(self._item_id("rs"), self._has_summary)

    def _call_item(self, call: ToolCallDelta) -> OutputItem:
        address = self._toolbox.address_of(call.name)
        if address.is_custom:
            return CustomCallItem(self._item_id("ctc"), call.call_id, address)
        return FunctionCallItem(self._item_id("fc"), call.call_id, address)

    def _item_id(self, prefix: str) -> str:
        number = len(self._output) + (self._item is not None)
        return f"{prefix}_{self._head['id'].removeprefix('resp_')}_{number}"

    def _begin(self, item: OutputItem) -> None:
        self._end("completed")
        self._item = item
        self._piece = None
        fields = {"output_index": len(self._output), "item": item.render("in_progress")}
        self._emit("response.output_item.added", fields)
        item.open(self._emit_for_item)

    def _grow(self, piece: str) -> None:
        assert self._item is not None
        self._item.feed(piece, self._emit_for_item)

    def _end(self, status: str) -> None:
        item = self._item
        if item is None:
            return
        item.close(self._emit_for_item)
        done = item.render(status)
        self._emit("response.output_item.done", {"output_index": len(self._output), "item": done})
        self._output.append(done)
        self._item = None
        self._call_index = -1

    def _response(self, status: str) -> Object:
        return self._head | {"status": status, "output": list(self._output)}

    def _emit_for_item(self, event: str, fields: Object, delta: str | None = None) -> None:
        if delta is None:
            self._emit(event, self._of_item(fields))
        elif fields.get("logprobs"):
            self._emit(event, self._of_item({**fields, "delta": delta}))
        else:
            if self._piece is None:
                fields = self._of_item(fields)
                self._piece = NumberedTemplate(lambda number, text: _record(event, number, {**fields, "delta": text}))
            self._sequence_number += 1
            self._records.append(self._piece.fill_in(self._sequence_number, delta))

    def _of_item(self, fields: Object) -> Object:
        assert self._item is not None
        return {"item_id": self._item.item_id, "output_index": len(self._output), **fields}

    def _emit(self, event: str, fields: Object) -> None:
        self._sequence_number += 1
        self._records.append(_record(event, self._sequence_number, fields))

    def _taken(self) -> bytes:
        records = b"".join(self._records)
        self._records.clear()
        return records


def _record(event: str, number: int, fields: Object) -> bytes:
    return named_record(event, {"type": event, "sequence_number": number, **fields})


def usage_object(usage: Usage) -> Object:
    return {
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.num_cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.num_output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.num_reasoning_tokens},
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
    }
