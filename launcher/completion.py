"""One streamed chat completion against any OpenAI-compatible endpoint, with its timings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from .errors import BadAnswer, ServerDown

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the JSON text as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back, and when. Seconds count from the request; tokens are the server's own count, None if not told."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    wall_seconds: float
    first_token_seconds: float | None
    last_token_seconds: float | None

    @property
    def decode_rate(self) -> float | None:
        """Tokens a second after the first one; None where it cannot be told."""
        if self.completion_tokens is None or self.first_token_seconds is None or self.last_token_seconds is None:
            return None
        seconds = self.last_token_seconds - self.first_token_seconds
        return (self.completion_tokens - 1) / seconds if self.completion_tokens > 1 and seconds > 0 else None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCallDelta(msgspec.Struct):
    index: int = 0
    function: _Function = msgspec.field(default_factory=_Function)


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCallDelta] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Error(msgspec.Struct):
    message: str = "no message"


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    error: _Error | None = None


class _Refusal(msgspec.Struct):
    error: _Error


def complete(
    http: httpx.Client,
    body: Mapping[str, object],
    clock: Callable[[], float] = time.perf_counter,
    on_text: Callable[[str, str], None] = lambda _text, _reasoning: None,
) -> Completion:
    """Send `body` as a streaming request; `on_text` gets each piece of text and of reasoning as it comes.

    Raises ServerDown, or BadAnswer where the endpoint breaks the protocol.
    """
    import httpx

    request = {**body, "stream": True, "stream_options": {"include_usage": True}}
    began = clock()
    try:
        with http.stream("POST", "/v1/chat/completions", json=request) as response:
            if response.status_code != 200:
                response.read()
                raise BadAnswer(f"HTTP {response.status_code}: {_refusal_message(response.content)}")
            collected = _Collector(began, clock, on_text)
            for data in _events(response.iter_lines()):
                collected.feed(data)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ServerDown(f"nothing answers at {http.base_url}: {error}") from error
    except httpx.HTTPError as error:
        raise BadAnswer(f"the stream broke: {error or type(error).__name__}") from error
    return collected.completion()


def _events(lines: Iterable[str]) -> Iterator[str]:
    """The data of each server-sent event, `[DONE]` included, after which the stream must end."""
    for line in lines:
        if line.startswith("data:"):
            data = line[5:].strip()
            yield data
            if data == "[DONE]":
                return
    raise BadAnswer("the stream ended without `data: [DONE]`")


@dataclass(slots=True)
class _Collector:
    """Puts the chunks of one answer together."""

    began: float
    clock: Callable[[], float]
    on_text: Callable[[str, str], None]
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, tuple[str, str]] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: _Usage = field(default_factory=_Usage)
    first: float | None = None
    last: float | None = None

    def feed(self, data: str) -> None:
        if data == "[DONE]":
            return
        try:
            chunk = msgspec.json.decode(data, type=_Chunk)
        except msgspec.DecodeError as error:
            raise BadAnswer(f"a chunk does not parse ({error}): {data[:120]}") from error
        if chunk.error is not None:
            raise BadAnswer(f"error in the stream: {chunk.error.message}")
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices:
            self._feed_choice(choice)

    def _feed_choice(self, choice: _Choice) -> None:
        delta = choice.delta
        reasoning = delta.reasoning_content or delta.reasoning or ""
        if delta.content or reasoning or delta.tool_calls:
            self.last = self.clock() - self.began
            self.first = self.last if self.first is None else self.first
            self.on_text(delta.content or "", reasoning)
        self.text.append(delta.content or "")
        self.reasoning.append(reasoning)
        for call in delta.tool_calls or []:
            name, arguments = self.calls.get(call.index, ("", ""))
            self.calls[call.index] = (call.function.name or name, arguments + (call.function.arguments or ""))
        self.finish_reason = choice.finish_reason or self.finish_reason

    def completion(self) -> Completion:
        if self.finish_reason is None:
            raise BadAnswer("the stream ended without a finish_reason")
        details = self.usage.prompt_tokens_details or _PromptDetails()
        return Completion(
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            tool_calls=tuple(ToolCall(*self.calls[index]) for index in sorted(self.calls)),
            finish_reason=self.finish_reason,
            prompt_tokens=self.usage.prompt_tokens,
            cached_tokens=details.cached_tokens,
            completion_tokens=self.usage.completion_tokens,
            wall_seconds=self.clock() - self.began,
            first_token_seconds=self.first,
            last_token_seconds=self.last,
        )


def _refusal_message(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=_Refusal).error.message
    except msgspec.DecodeError:
        return content[:200].decode("utf-8", "replace") or "no body"
