"""The OpenAI Completions API: `POST /v1/completions`, a bare prompt that is continued as it stands."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from ..errors import InvalidRequest, OmlxError
from ..events import Delta, Finished, PrefillProgress, ReasoningDelta, TextDelta, Usage
from ..requests import GenerationRequest
from . import openai_errors, openai_options, wire
from .base import Answer, Encoder
from .openai_chat_stream import Head, finish_fields, usage_object
from .sse import DONE, data_record, encode, response_id
from .wire import Ignored, Object

encode_error = openai_errors.encode_error

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Body(openai_options.SamplingFields, kw_only=True):
    prompt: str | list[Any]
    best_of: int | None = None
    echo: bool | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    suffix: str | None = None
    structured_outputs: Object | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """`echo` stands before the text of the answer."""

    request: GenerationRequest
    stream: bool
    include_usage: bool
    echo: str
    created: int = field(default_factory=lambda: int(time.time()))

    def encoder(self) -> Encoder:
        return CompletionsEncoder(self._head(), self.include_usage, self.echo)

    def encode_answer(self, answer: Answer) -> bytes:
        text = "".join(part.text for part in answer.segments if isinstance(part, TextDelta | ReasoningDelta))
        choice = _choice(self.echo + text) | finish_fields(answer.reason, answer.stop_sequence)
        return encode({**_body(self._head(), [choice]), "usage": usage_object(answer.usage)})

    def _head(self) -> Head:
        return Head(response_id("cmpl-", self.request.request_id), self.request.model, self.created)


def decode(body: bytes, request_id: str) -> Call:
    """The call a `POST /v1/completions` body asks for."""
    fields = wire.decode_body(body, Body)
    ignored = Ignored()
    ignored.add_unknown_fields(body, Body)
    ignored.log(request_id)
    _refuse_unserved(fields)
    prompt = _prompt(fields.prompt)
    if fields.echo and not isinstance(prompt, str):
        raise InvalidRequest("a prompt of token ids cannot be echoed; leave it out", "echo")
    request = GenerationRequest(
        request_id=request_id,
        model=fields.model,
        messages=(),
        prompt=prompt,
        sampling=openai_options.read_sampling(fields),
        max_tokens=16 if fields.max_tokens is None else fields.max_tokens,
        stop=openai_options.read_stop(fields.stop),
        output_format=openai_options.read_output_format(None, fields.structured_outputs),
    )
    include_usage = bool(fields.stream_options and fields.stream_options.include_usage)
    echo = prompt if fields.echo and isinstance(prompt, str) else ""
    return Call(request, bool(fields.stream), include_usage, echo)


def _refuse_unserved(fields: Body) -> None:
    """Refuse what would change the answer were it ignored."""
    if fields.best_of not in (None, 1):
        raise InvalidRequest("this server gives one answer a request; leave it out", "best_of")
    if fields.logprobs is not None:
        raise InvalidRequest("this server returns no log probabilities; leave it out", "logprobs")
    if fields.suffix:
        raise InvalidRequest("this server only continues a prompt; leave it out", "suffix")


def _prompt(prompt: Any) -> str | tuple[int, ...]:
    """The one prompt: a text, a list of token ids, or a list of one of either."""
    path = "prompt"
    while isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        if len(prompt) > 1:
            raise InvalidRequest("this server takes one prompt a request; send several requests", path)
        path += ".0"
        prompt = prompt[0]
        if not isinstance(prompt, str | list):
            raise InvalidRequest("must be a text or a list of token ids", path)
    if not prompt:
        raise InvalidRequest("must not be empty", path)
    return prompt if isinstance(prompt, str) else tuple(wire.convert(prompt, list[TokenId], path))


class CompletionsEncoder:
    """The stream: a chunk a delta, one with the finish reason, one with the usage if asked."""

    def __init__(self, head: Head, include_usage: bool, echo: str) -> None:
        self._head = head
        self._include_usage = include_usage
        self._echo = echo

    def start(self, usage: Usage) -> bytes:
        del usage
        return self._chunk([_choice(self._echo)])

    def feed(self, event: Delta | PrefillProgress) -> bytes:
        """Nothing but text is told: a bare prompt has no thinking and no tools."""
        if isinstance(event, TextDelta | ReasoningDelta):
            return self._chunk([_choice(event.text)])
        return b""

    def heartbeat(self) -> bytes:
        return self._chunk([])

    def finish(self, finished: Finished) -> bytes:
        choice = _choice("") | finish_fields(finished.reason, finished.stop_sequence)
        records = self._chunk([choice])
        if self._include_usage:
            records += data_record({**_body(self._head, []), "usage": usage_object(finished.usage)})
        return records + DONE

    def error(self, error: OmlxError) -> bytes:
        return data_record({"error": openai_errors.error_object(error)}) + DONE

    def _chunk(self, choices: list[Object]) -> bytes:
        chunk = _body(self._head, choices)
        if self._include_usage:
            chunk["usage"] = None
        return data_record(chunk)


def _body(head: Head, choices: list[Object]) -> Object:
    return head.body("text_completion", choices)


def _choice(text: str) -> Object:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
