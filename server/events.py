"""What an answer is made of: the values between the pipeline and the dialects' encoders.

An answer is any number of deltas and progress reports, then exactly one `Finished`. Where a request asked for several
answers, `choice` says whose a delta is, and each ends with a `ChoiceFinished` before the `Finished` of them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class FinishReason(StrEnum):
    STOP = "stop"
    """The model ended its turn."""
    STOP_SEQUENCE = "stop_sequence"
    """A text stop sequence of the client's was written."""
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them, never scaled.

    `num_cached_tokens` of the prompt were not computed again; `num_reasoning_tokens` are part of
    `num_output_tokens`.
    """

    num_prompt_tokens: int
    num_output_tokens: int = 0
    num_cached_tokens: int = 0
    num_reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """`num_computed_tokens` of `num_prompt_tokens` are in the cache so far."""

    num_computed_tokens: int
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the call number `index` of this answer (from 0).

    The first delta of a call carries its `call_id` and `name`, and may carry no arguments yet; later ones
    leave both empty. The pieces of `arguments` joined are what the model wrote, JSON unless it erred.
    """

    index: int
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token as text and as bytes, with its natural log probability: None for a prompt's first one.

    `top` holds the likeliest tokens of its place, best first. A piece of a character has U+FFFD as its text.
    """

    text: str
    data: bytes
    logprob: float | None
    top: tuple[TokenScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Of the tokens whose deltas come next, thinking, calls and all."""

    tokens: tuple[TokenScore, ...]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Of the prompt's own tokens, before the first delta, where the request asked for them."""

    tokens: tuple[TokenScore, ...]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ChoiceFinished:
    choice: int
    reason: FinishReason
    stop_sequence: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    reason: FinishReason
    usage: Usage
    stop_sequence: str = ""


Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | Logprobs | PromptLogprobs | ChoiceFinished
Event: TypeAlias = PrefillProgress | Delta | Finished
