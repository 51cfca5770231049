"""The OpenAI Completions API: `POST /v1/completions`, a bare prompt that is continued as it stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import msgspec

from ..errors import InvalidRequest, OmlxError
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
from ..requests import GenerationRequest
from . import openai_errors, openai_options, wire
from .base import Answer, Encoder
from .openai_chat_stream import Head, finish_fields, usage_object
from .openai_logprobs import text_logprobs
from .sse import DONE, data_record, encode, response_id
from .wire import Ignored, Object

PROMPT_FIELD = "prompt"
encode_error = openai_errors.encode_error

MAX_CHOICES = 128
"""Answers to all prompts of one request: half of what the engine's queue holds."""
Text = Annotated[str, msgspec.Meta(min_length=1)]
TokenIds = Annotated[tuple[wire.TokenId, ...], msgspec.Meta(min_length=1)]


class Body(openai_options.SamplingFields, kw_only=True):
    prompt: Text | Annotated[list[Any], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    best_of: wire.NumAnswers | None = None
    echo: bool | None = None
    logprobs: wire.NumLogprobs | None = None
    suffix: str | None = None
    structured_outputs: Object | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """`num_told` of the answers to each prompt are told, the likeliest. The prompt's `echo` stands before them; where
    its log probabilities are asked for, they bring it."""

    request: GenerationRequest
    stream: bool
    include_usage: bool
    echo: tuple[str, ...] = ("",)
    """Of each prompt; empty for one of token ids, whose log probabilities bring it."""
    has_logprobs: bool = False
    num_told: int = 1
    tells_prompt_only: bool = False
    """The engine writes a token even then; it is not told."""
    created: int = field(default_factory=lambda: int(time.time()))
    keeps_body = True

    def encoder(self) -> Encoder:
        return CompletionsEncoder(self._head(), self)

    def encode_answer(self, answer: Answer) -> bytes:
        if self.tells_prompt_only:
            answer = _untold(answer)
        choices: list[Object] = []
        num_answers = self.request.num_answers
        for number, echo in enumerate(self.echo):
            told = answer.choices[number * num_answers : (number + 1) * num_answers]
            if num_answers > self.num_told:
                told = sorted(told, key=_likelihood, reverse=True)[: self.num_told]
            choices += [self._choice(index, echo, choice) for index, choice in enumerate(told, len(choices))]
        return encode({**_body(self._head(), choices), "usage": usage_object(answer.usage)})

    def _choice(self, index: int, echo: str, answer: Answer) -> Object:
        text = "".join(part.text for part in answer.segments if isinstance(part, TextDelta | ReasoningDelta))
        echo = _text_of(answer.prompt_logprobs) or echo
        choice = _choice(echo + text, index) | finish_fields(answer.reason, answer.stop_sequence)
        if self.has_logprobs:
            offset = 0 if answer.prompt_logprobs else len(echo)
            choice["logprobs"] = text_logprobs([*answer.prompt_logprobs, *answer.logprobs], offset)
        return choice

    def _head(self) -> Head:
        return Head(response_id("cmpl-", self.request.request_id), self.request.model, self.created)


def _untold(answer: Answer) -> Answer:
    """The answer without its one token."""
    others = tuple(_untold(other) for other in answer.others)
    return replace(
        answer, segments=(), logprobs=(), reason=FinishReason.LENGTH, usage=_unwritten(answer.usage), others=others
    )


def _unwritten(usage: Usage) -> Usage:
    return replace(usage, num_output_tokens=0, num_reasoning_tokens=0)


def _likelihood(answer: Answer) -> float:
    """The mean log probability of an answer's tokens, by which `best_of` chooses."""
    scores = [token.logprob or 0.0 for token in answer.logprobs]
    return sum(scores) / len(scores) if scores else 0.0


def _text_of(tokens: Sequence[TokenScore]) -> str:
    return b"".join(token.data for token in tokens).decode(errors="replace")


def decode(body: bytes, request_id: str) -> Call:
    """The call a `POST /v1/completions` body asks for."""
    fields = wire.decode_body(body, Body)
    ignored = Ignored()
    ignored.add_unknown_fields(body, Body)
    ignored.log(request_id)
    _refuse_unserved(fields)
    prompts = _prompts(fields.prompt)
    has_logprobs, num_told = fields.logprobs is not None, fields.n or 1
    num_answers = _num_answers(fields, num_told)
    _check_choices(len(prompts), num_answers)
    request = GenerationRequest(
        request_id=request_id,
        model=fields.model,
        messages=(),
        prompt=prompts[0],
        more_prompts=tuple(prompts[1:]),
        sampling=openai_options.read_sampling(fields),
        max_tokens=16 if fields.max_tokens is None else max(fields.max_tokens, 1),
        stop=openai_options.read_stop(fields.stop),
        output_format=openai_options.read_output_format(None, fields.structured_outputs),
        num_answers=num_answers,
        logprobs=0 if fields.logprobs is None and num_answers > num_told else fields.logprobs,
        prompt_logprobs=bool(fields.echo) and (has_logprobs or not isinstance(prompts[0], str)),
    )
    include_usage = bool(fields.stream_options and fields.stream_options.include_usage)
    echo = tuple(prompt if fields.echo and isinstance(prompt, str) else "" for prompt in prompts)
    return Call(request, bool(fields.stream), include_usage, echo, has_logprobs, num_told, fields.max_tokens == 0)


def _num_answers(fields: Body, num_told: int) -> int:
    """How many answers to choose from."""
    if fields.best_of is None or fields.best_of == num_told:
        return num_told
    if fields.best_of < num_told:
        raise InvalidRequest(f"{fields.best_of} is less than n, which is {num_told}", "best_of")
    if fields.stream:
        raise InvalidRequest("the best answers are known at the end only; leave it out, or stream", "best_of")
    return fields.best_of


def _refuse_unserved(fields: Body) -> None:
    """Refuse what would change the answer were it ignored."""
    if fields.max_tokens == 0 and not fields.echo:
        raise InvalidRequest("0 leaves nothing to answer; set echo too, or ask for at least 1", "max_tokens")
    if fields.suffix:
        raise InvalidRequest("this server only continues a prompt; leave it out", "suffix")


def _prompts(prompt: str | list[Any]) -> list[str | tuple[int, ...]]:
    """The prompts: a text, a list of token ids, or a list of texts or of lists of token ids."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [tuple(wire.convert(prompt, list[wire.TokenId], "prompt"))]
    return wire.convert(prompt, list[Text if isinstance(prompt[0], str) else TokenIds], "prompt")


def _check_choices(num_prompts: int, num_answers: int) -> None:
    if num_prompts * num_answers > MAX_CHOICES:
        asked = f"{num_prompts} prompts" + (f" with {num_answers} answers each" if num_answers > 1 else "")
        raise InvalidRequest(f"{asked}, a request has at most {MAX_CHOICES} answers; send several", "prompt")


class CompletionsEncoder:
    """The stream: a chunk a delta, one with each choice's finish reason, one with the usage if asked."""

    def __init__(self, head: Head, call: Call) -> None:
        self._head = head
        self._call = call
        self._echo = [echo for echo in call.echo for _ in range(call.request.num_answers)]
        self._choices = range(len(self._echo))
        self._offsets = dict.fromkeys(self._choices, 0)
        """By choice: how many characters of text have had their log probabilities."""
        self._scores: dict[int, list[TokenScore]] = {}
        self._progress: PrefillProgress | None = None

    def start(self, usage: Usage) -> bytes:
        del usage
        if self._call.request.prompt_logprobs:
            return self._chunk([])
        self._offsets = {choice: len(echo) for choice, echo in enumerate(self._echo)}
        return b"".join(self._chunk([_choice(echo, choice)]) for choice, echo in enumerate(self._echo))

    def feed(self, event: Delta | PrefillProgress) -> bytes:
        """Nothing but text is told: a bare prompt has no thinking and no tools."""
        match event:
            case TextDelta() | ReasoningDelta() | Logprobs() if self._call.tells_prompt_only:
                pass
            case TextDelta(text, choice) | ReasoningDelta(text, choice):
                return self._chunk([_choice(text, choice, self._take_scores(choice))])
            case Logprobs(tokens, choice):
                self._scores.setdefault(choice, []).extend(tokens)
            case PromptLogprobs(tokens, choice):
                self._scores[choice] = list(tokens)
                return self._chunk([_choice(_text_of(tokens), choice, self._take_scores(choice))])
            case ChoiceFinished() if self._call.tells_prompt_only:
                return self._finish_choice(ChoiceFinished(event.choice, FinishReason.LENGTH))
            case ChoiceFinished():
                return self._finish_choice(event)
            case PrefillProgress():
                self._progress = event
            case ToolCallDelta():
                pass
        return b""

    def heartbeat(self) -> bytes:
        return self._chunk([], {} if self._progress is None else {"prefill": self._progress})

    def finish(self, finished: Finished) -> bytes:
        records = b""
        if self._call.tells_prompt_only:
            finished = Finished(FinishReason.LENGTH, _unwritten(finished.usage))
        if len(self._choices) == 1:
            records = self._finish_choice(ChoiceFinished(0, finished.reason, finished.stop_sequence))
        if self._call.include_usage:
            records += data_record({**_body(self._head, []), "usage": usage_object(finished.usage)})
        return records + DONE

    def error(self, error: OmlxError) -> bytes:
        return data_record({"error": openai_errors.error_object(error)}) + DONE

    def _finish_choice(self, ended: ChoiceFinished) -> bytes:
        choice = _choice("", ended.choice) | finish_fields(ended.reason, ended.stop_sequence)
        return self._chunk([choice | {"logprobs": self._take_scores(ended.choice)}])

    def _take_scores(self, choice: int) -> Object | None:
        tokens = self._scores.pop(choice, None)
        if tokens is None or not self._call.has_logprobs:
            return None
        offset = self._offsets[choice]
        self._offsets[choice] += sum(len(token.text) for token in tokens)
        return text_logprobs(tokens, offset)

    def _chunk(self, choices: list[Object], more: Object | None = None) -> bytes:
        chunk = _body(self._head, choices) | (more or {})
        if self._call.include_usage:
            chunk["usage"] = None
        return data_record(chunk)


def _body(head: Head, choices: list[Object]) -> Object:
    return head.body("text_completion", choices)


def _choice(text: str, index: int = 0, logprobs: Object | None = None) -> Object:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}
