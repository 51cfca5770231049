"""What every dialect gives: a body decoded into a request, events encoded back.

A dialect is a module with the functions of `Dialect`, or an object where it has to remember something. It
sees bytes and values and does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import OmlxError
from ..events import Delta, Finished, FinishReason, PrefillProgress, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from ..requests import GenerationRequest, ToolCall


class Encoder(Protocol):
    """Turns the events of one answer into the bytes of one SSE stream.

    The order is `start`, any number of `feed` and `heartbeat`, then `finish` or `error`. Each returns
    whole SSE records, or nothing. Pieces of one call come together: a call ends where anything else begins.
    """

    def start(self, usage: Usage) -> bytes:
        """The first records, sent once the engine has admitted the request; `usage` counts the prompt."""
        ...

    def feed(self, event: Delta | PrefillProgress) -> bytes: ...

    def heartbeat(self) -> bytes:
        """A real event of the protocol that changes nothing: clients ignore SSE comments."""
        ...

    def finish(self, finished: Finished) -> bytes: ...

    def error(self, error: OmlxError) -> bytes:
        """Ends the stream with the protocol's error event."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: the same events, collected. Deltas keep their order, each kind merged with its neighbours."""

    segments: tuple[TextDelta | ReasoningDelta | ToolCall, ...]
    reason: FinishReason
    usage: Usage
    stop_sequence: str = ""

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments if isinstance(segment, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(segment.text for segment in self.segments if isinstance(segment, ReasoningDelta))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(segment for segment in self.segments if isinstance(segment, ToolCall))


def collect(deltas: Sequence[Delta], finished: Finished) -> Answer:
    """Merge neighbouring text and reasoning, and the pieces of each call, into an `Answer`."""
    segments: list[TextDelta | ReasoningDelta | ToolCall] = []
    calls: dict[int, int] = {}
    for delta in deltas:
        last = segments[-1] if segments else None
        if isinstance(delta, ToolCallDelta):
            if delta.index not in calls:
                calls[delta.index] = len(segments)
                segments.append(ToolCall(delta.call_id, delta.name, delta.arguments))
            else:
                call = segments[calls[delta.index]]
                assert isinstance(call, ToolCall)
                segments[calls[delta.index]] = ToolCall(call.call_id, call.name, call.arguments + delta.arguments)
        elif isinstance(delta, TextDelta) and isinstance(last, TextDelta):
            segments[-1] = TextDelta(last.text + delta.text)
        elif isinstance(delta, ReasoningDelta) and isinstance(last, ReasoningDelta):
            segments[-1] = ReasoningDelta(last.text + delta.text)
        else:
            segments.append(delta)
    return Answer(tuple(segments), finished.reason, finished.usage, finished.stop_sequence)


class Call(Protocol):
    """One decoded body: what to generate, and how to answer it."""

    @property
    def request(self) -> GenerationRequest: ...

    @property
    def stream(self) -> bool: ...

    def encoder(self) -> Encoder: ...

    def encode_answer(self, answer: Answer) -> bytes:
        """The whole JSON body of a non-streaming answer."""
        ...


class Dialect(Protocol):
    """What reads a protocol's bodies and tells its errors."""

    def decode(self, body: bytes, request_id: str) -> Call:
        """Raises `InvalidRequest` with the field's path for a body the protocol does not allow."""
        ...

    def encode_error(self, error: OmlxError, request_id: str) -> bytes:
        """The JSON body of an error answer, in the protocol's own shape."""
        ...
