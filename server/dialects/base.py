"""What every dialect gives: a body decoded into a request, events encoded back.

A dialect is a module with the functions of `Dialect`, or an object where it has to remember something. It
sees bytes and values and does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

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
from ..requests import GenerationRequest, ToolCall

Segment: TypeAlias = TextDelta | ReasoningDelta | ToolCall


class Encoder(Protocol):
    """Turns the events of one answer into the bytes of one SSE stream.

    The order is `start`, any number of `feed` and `heartbeat`, then `finish` or `error`. Each returns
    whole SSE records, or nothing. Pieces of one call come together: a call ends where anything else begins.
    """

    def start(self, usage: Usage) -> bytes:
        """The first records. `usage` counts the prompt, and its cached tokens where the engine has told them."""
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
    """A whole answer: the same events, collected. Deltas keep their order, each kind merged with its neighbours.

    `others` are the request's other answers where it asked for several; `usage` is that of all together.
    """

    segments: tuple[Segment, ...]
    reason: FinishReason
    usage: Usage
    stop_sequence: str = ""
    logprobs: tuple[TokenScore, ...] = ()
    prompt_logprobs: tuple[TokenScore, ...] = ()
    others: tuple[Answer, ...] = ()

    @property
    def choices(self) -> tuple[Answer, ...]:
        return (self, *self.others)

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
    ends = [delta for delta in deltas if isinstance(delta, ChoiceFinished)]
    if not ends:
        return _collect(deltas, finished)
    first, *others = (
        _collect(
            [delta for delta in deltas if delta.choice == end.choice],
            Finished(end.reason, finished.usage, end.stop_sequence),
        )
        for end in sorted(ends, key=lambda end: end.choice)
    )
    return replace(first, others=tuple(others))


def _collect(deltas: Sequence[Delta], finished: Finished) -> Answer:
    segments: list[Segment] = []
    calls: dict[int, int] = {}
    logprobs: list[TokenScore] = []
    prompt_logprobs: tuple[TokenScore, ...] = ()
    for delta in deltas:
        match delta:
            case Logprobs(tokens):
                logprobs += tokens
            case PromptLogprobs(tokens):
                prompt_logprobs = tokens
            case ToolCallDelta():
                _merge_call(segments, calls, delta)
            case TextDelta() | ReasoningDelta():
                _merge_text(segments, delta)
            case ChoiceFinished():
                pass
    return Answer(
        tuple(segments), finished.reason, finished.usage, finished.stop_sequence, tuple(logprobs), prompt_logprobs
    )


def _merge_call(segments: list[Segment], calls: dict[int, int], delta: ToolCallDelta) -> None:
    """`calls` says where in `segments` each call stands."""
    if delta.index not in calls:
        calls[delta.index] = len(segments)
        segments.append(ToolCall(delta.call_id, delta.name, delta.arguments))
        return
    call = segments[calls[delta.index]]
    assert isinstance(call, ToolCall)
    segments[calls[delta.index]] = ToolCall(call.call_id, call.name, call.arguments + delta.arguments)


def _merge_text(segments: list[Segment], delta: TextDelta | ReasoningDelta) -> None:
    last = segments[-1] if segments else None
    if isinstance(last, TextDelta | ReasoningDelta) and type(last) is type(delta):
        segments[-1] = replace(last, text=last.text + delta.text)
    else:
        segments.append(delta)


class Call(Protocol):
    """One decoded body: what to generate, and how to answer it."""

    @property
    def request(self) -> GenerationRequest: ...

    @property
    def stream(self) -> bool: ...

    @property
    def keeps_body(self) -> bool:
        """Whether the encoder holds what the body said for as long as it streams."""
        ...

    def encoder(self) -> Encoder: ...

    def encode_answer(self, answer: Answer) -> bytes:
        """The whole JSON body of a non-streaming answer."""
        ...


class Dialect(Protocol):
    """What reads a protocol's bodies and tells its errors."""

    @property
    def PROMPT_FIELD(self) -> str:
        """The field of a body that the prompt is made of."""
        ...

    def decode(self, body: bytes, request_id: str) -> Call:
        """Raises `InvalidRequest` with the field's path for a body the protocol does not allow."""
        ...

    def encode_error(self, error: OmlxError, request_id: str) -> bytes:
        """The JSON body of an error answer, in the protocol's own shape."""
        ...
