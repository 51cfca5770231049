"""The model's last answers, so that a turn which comes back without its thinking is rendered as it was written.

Some clients drop the thinking they were sent, others trim it or the text beside it. The prompt would part there from
what is cached, and the model would no longer see what it had thought.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ..events import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from ..requests import GenerationRequest, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from .tool_text import canonical_json, parsed_arguments

_SYSTEM_ROLES = (Role.SYSTEM, Role.DEVELOPER)
_PART_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Recalled:
    """`request` with what was missing put back; `place` names the conversation up to the answer that it asks for."""

    request: GenerationRequest
    place: bytes


class AnswerMemory:
    """Keeps the last answers within `max_characters`. Safe to share between threads.

    An answer is found by what was said before it and by its own text and calls, white space at their ends and the ids
    of calls aside: it never comes back into another conversation.
    """

    def __init__(self, max_characters: int = 16_000_000) -> None:
        self._max_characters = max_characters
        self._num_characters = 0
        self._answers: OrderedDict[bytes, tuple[Part, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, request: GenerationRequest, scope: str) -> Recalled:
        """`scope` parts what must not meet: models, and keys."""
        place = scope.encode()
        messages: list[Message] = []
        for is_answer, group in groupby(request.messages, lambda message: message.role is Role.ASSISTANT):
            turn = list(group)
            parts = tuple(part for message in turn if message.role not in _SYSTEM_ROLES for part in message.parts)
            place = _next_place(place, parts)
            kept = self._find(place) if is_answer else None
            messages += turn if kept is None or not _is_less(parts, kept) else [_as_sent(kept, parts)]
        return Recalled(replace(request, messages=tuple(messages)), place)

    def remember(self, place: bytes, answer: Sequence[Part]) -> None:
        """Keep the answer that a `Recalled` request got, if a client could send it back as less than it was."""
        parts = tuple(answer)
        if all(
            isinstance(part, ToolCall) or (isinstance(part, Text) and part.text == part.text.strip()) for part in parts
        ):
            return
        key = _next_place(place, parts)
        with self._lock:
            self._num_characters += _size(parts) - _size(self._answers.pop(key, ()))
            self._answers[key] = parts
            while self._num_characters > self._max_characters:
                self._num_characters -= _size(self._answers.popitem(last=False)[1])

    def _find(self, place: bytes) -> tuple[Part, ...] | None:
        with self._lock:
            if place in self._answers:
                self._answers.move_to_end(place)
            return self._answers.get(place)


def parts_of(deltas: Iterable[Delta]) -> list[Part]:
    """An answer's deltas as the parts of its message, in their order."""
    parts: list[Part] = []
    pieces: dict[int, int] = {}
    for delta in deltas:
        last = parts[-1] if parts else None
        match delta:
            case TextDelta(text):
                if isinstance(last, Text):
                    parts[-1] = Text(last.text + text)
                else:
                    parts.append(Text(text))
            case ReasoningDelta(text):
                if isinstance(last, Reasoning):
                    parts[-1] = Reasoning(last.text + text)
                else:
                    parts.append(Reasoning(text))
            case ToolCallDelta(index, call_id, name, arguments) if index not in pieces:
                pieces[index] = len(parts)
                parts.append(ToolCall(call_id, name, arguments))
            case ToolCallDelta(index, arguments=arguments):
                call = parts[pieces[index]]
                assert isinstance(call, ToolCall)
                parts[pieces[index]] = replace(call, arguments=call.arguments + arguments)
            case _:
                pass
    return parts


def _next_place(place: bytes, parts: Sequence[Part]) -> bytes:
    """The place behind what is said, whatever messages it is cut into, and however its ends and ids were changed."""
    said = hashlib.sha256(place)
    said.update(_joined(part.text for part in parts if isinstance(part, Text)).encode(errors="replace"))
    for part in parts:
        if isinstance(part, ToolCall):
            words = f"\0call {part.name} {canonical_json(parsed_arguments(part))}"
        elif isinstance(part, ToolResult):
            words = "\0result " + _joined(inner.text for inner in part.parts if isinstance(inner, Text))
        else:
            continue
        said.update(words.encode(errors="replace"))
    return said.digest()


def _is_less(given: Sequence[Part], kept: Sequence[Part]) -> bool:
    """Whether the thinking that is sent back is none, or what it was but for its ends."""
    thought = _joined(part.text for part in given if isinstance(part, Reasoning))
    return thought in ("", _joined(part.text for part in kept if isinstance(part, Reasoning)))


def _as_sent(kept: Sequence[Part], given: Sequence[Part]) -> Message:
    """The answer as it was written, its calls by the ids that the client has for them."""
    calls = iter([part for part in given if isinstance(part, ToolCall)])
    return Message(Role.ASSISTANT, tuple(next(calls) if isinstance(part, ToolCall) else part for part in kept))


def _joined(texts: Iterable[str]) -> str:
    return "".join(texts).strip()


def _size(parts: Iterable[Part]) -> int:
    """In characters, the room that the parts themselves take included."""
    sizes = (
        len(part.text) if isinstance(part, Text | Reasoning) else len(part.arguments)
        for part in parts
        if isinstance(part, Text | Reasoning | ToolCall)
    )
    return sum(_PART_CHARACTERS + size for size in sizes)
