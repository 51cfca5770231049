"""The output items of the Responses API while they are written: each opens, grows and closes in events of its own."""

from __future__ import annotations

from typing import Any, Protocol

from ..events import TokenScore
from .openai_freeform import FreeformInput
from .openai_logprobs import token_logprobs
from .openai_responses_input import encode_reasoning
from .openai_responses_tools import ToolAddress
from .wire import Object


class Emit(Protocol):
    """Writes an event with its name and its own fields; the encoder adds what every event has.

    An event that brings a piece of the item has it as its `delta`. Pieces of one item differ in nothing else, but for
    log probabilities.
    """

    def __call__(self, event: str, fields: Object, delta: str | None = None) -> None: ...


class OutputItem(Protocol):
    item_id: str

    def render(self, status: str) -> Object:
        """The item as it is so far."""
        ...

    def open(self, emit: Emit) -> None: ...

    def feed(self, piece: str, emit: Emit) -> None: ...

    def close(self, emit: Emit) -> None: ...


class MessageItem:
    def __init__(self, item_id: str) -> None:
        self.item_id = item_id
        self._text: list[str] = []
        self._new_logprobs: list[Object] = []
        self._logprobs: list[Object] = []

    def score(self, tokens: list[TokenScore]) -> None:
        """Of the next piece."""
        self._new_logprobs = token_logprobs(tokens)
        self._logprobs += self._new_logprobs

    def render(self, status: str) -> Object:
        content = [] if status == "in_progress" else [self._part()]
        return {"id": self.item_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def open(self, emit: Emit) -> None:
        emit("response.content_part.added", {"content_index": 0, "part": self._part()})

    def feed(self, piece: str, emit: Emit) -> None:
        self._text.append(piece)
        logprobs, self._new_logprobs = self._new_logprobs, []
        emit("response.output_text.delta", {"content_index": 0, "logprobs": logprobs}, piece)

    def close(self, emit: Emit) -> None:
        part = self._part()
        done = {"content_index": 0, "text": part["text"], "logprobs": self._logprobs}
        emit("response.output_text.done", done)
        emit("response.content_part.done", {"content_index": 0, "part": part})

    def _part(self) -> Object:
        return {"type": "output_text", "text": "".join(self._text), "annotations": [], "logprobs": self._logprobs}


class ReasoningItem:
    """Thinking: as the summary where the client asked for one, else as the reasoning's own text."""

    def __init__(self, item_id: str, is_summary: bool) -> None:
        self.item_id = item_id
        self._is_summary = is_summary
        self._text: list[str] = []

    def render(self, status: str) -> Object:
        item: Object = {"id": self.item_id, "type": "reasoning", "status": status, "summary": []}
        if status != "in_progress":
            item["summary" if self._is_summary else "content"] = [self._part()]
            item["encrypted_content"] = encode_reasoning("".join(self._text))
        return item

    def open(self, emit: Emit) -> None:
        emit(f"{self._part_event}.added", {self._index: 0, "part": self._part()})

    def feed(self, piece: str, emit: Emit) -> None:
        self._text.append(piece)
        emit(f"{self._text_event}.delta", {self._index: 0}, piece)

    def close(self, emit: Emit) -> None:
        part = self._part()
        emit(f"{self._text_event}.done", {self._index: 0, "text": part["text"]})
        emit(f"{self._part_event}.done", {self._index: 0, "part": part})

    @property
    def _index(self) -> str:
        return "summary_index" if self._is_summary else "content_index"

    @property
    def _part_event(self) -> str:
        return "response.reasoning_summary_part" if self._is_summary else "response.content_part"

    @property
    def _text_event(self) -> str:
        return "response.reasoning_summary_text" if self._is_summary else "response.reasoning_text"

    def _part(self) -> Object:
        kind = "summary_text" if self._is_summary else "reasoning_text"
        return {"type": kind, "text": "".join(self._text)}


class FunctionCallItem:
    def __init__(self, item_id: str, call_id: str, address: ToolAddress) -> None:
        self.item_id = item_id
        self._call_id = call_id
        self._address = address
        self._arguments: list[str] = []

    def render(self, status: str) -> Object:
        arguments = "".join(self._arguments)
        item = {"id": self.item_id, "type": "function_call", "status": status, "arguments": arguments}
        return item | _address(self._call_id, self._address)

    def open(self, emit: Emit) -> None:
        pass

    def feed(self, piece: str, emit: Emit) -> None:
        self._arguments.append(piece)
        emit("response.function_call_arguments.delta", {}, piece)

    def close(self, emit: Emit) -> None:
        if not self._arguments:
            self.feed("{}", emit)
        fields = {"name": self._address.name, "arguments": "".join(self._arguments)}
        emit("response.function_call_arguments.done", fields)


class CustomCallItem:
    """A freeform call: its arguments become the text that the client's tool takes."""

    def __init__(self, item_id: str, call_id: str, address: ToolAddress) -> None:
        self.item_id = item_id
        self._call_id = call_id
        self._address = address
        self._input = FreeformInput()

    def render(self, status: str) -> Object:
        item = {"id": self.item_id, "type": "custom_tool_call", "status": status, "input": self._input.text}
        return item | _address(self._call_id, self._address)

    def open(self, emit: Emit) -> None:
        pass

    def feed(self, piece: str, emit: Emit) -> None:
        self._emit_delta(self._input.feed(piece), emit)

    def close(self, emit: Emit) -> None:
        self._emit_delta(self._input.finish(), emit)
        emit("response.custom_tool_call_input.done", {"input": self._input.text})

    def _emit_delta(self, text: str, emit: Emit) -> None:
        if text:
            emit("response.custom_tool_call_input.delta", {}, text)


def _address(call_id: str, address: ToolAddress) -> dict[str, Any]:
    """`namespace` is named only where the client's tool has one."""
    fields: dict[str, Any] = {"call_id": call_id, "name": address.name}
    if address.namespace:
        fields["namespace"] = address.namespace
    return fields
