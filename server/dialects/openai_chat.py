"""The OpenAI Chat Completions API: `POST /v1/chat/completions`.

Beside the API's own fields it takes those that local servers share: `top_k`, `min_p`,
`repetition_penalty`, `chat_template_kwargs`, and `reasoning_content` (or `reasoning`) in messages.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from ..errors import InvalidRequest
from ..json_size import JsonSize
from ..requests import (
    GenerationRequest,
    Message,
    Part,
    Reasoning,
    ReasoningOptions,
    Role,
    Text,
    ToolResult,
)
from . import openai_chat_stream, openai_content, openai_errors, openai_options, wire
from .base import Answer, Encoder
from .sse import response_id
from .wire import Ignored, Object

PROMPT_FIELD = "messages"
encode_error = openai_errors.encode_error


class MessageItem(msgspec.Struct):
    role: str
    content: str | list[Object] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Object] | None = None
    function_call: Object | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Body(openai_options.SamplingFields, kw_only=True):
    messages: Annotated[list[MessageItem], msgspec.Meta(min_length=1, max_length=100_000)]
    max_completion_tokens: wire.TokenLimit | None = None
    tools: list[Object] | None = None
    tool_choice: str | Object | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: wire.NumLogprobs | None = None
    reasoning_effort: str | None = None
    response_format: Object | None = None
    structured_outputs: Object | None = None
    chat_template_kwargs: Object | None = None
    prompt_cache_key: str | None = None


class TemplateOptions(msgspec.Struct):
    """Those that mean something to this server too."""

    thinking_budget: wire.TokenBudget | None = None


@dataclass(frozen=True, slots=True)
class Call:
    request: GenerationRequest
    stream: bool
    include_usage: bool
    created: int = field(default_factory=lambda: int(time.time()))
    keeps_body = False

    def encoder(self) -> Encoder:
        return openai_chat_stream.ChatEncoder(self._head(), self.include_usage, self.request.num_answers)

    def encode_answer(self, answer: Answer) -> bytes:
        return openai_chat_stream.encode_answer(self._head(), answer, self.request.logprobs is not None)

    def _head(self) -> openai_chat_stream.Head:
        answer_id = response_id("chatcmpl-", self.request.request_id)
        return openai_chat_stream.Head(answer_id, self.request.model, self.created)


def decode(body: bytes, request_id: str) -> Call:
    """The call a `POST /v1/chat/completions` body asks for."""
    fields = wire.decode_body(body, Body)
    ignored = Ignored()
    ignored.add_unknown_fields(body, Body)
    if fields.top_logprobs is not None and not fields.logprobs:
        raise InvalidRequest("needs logprobs: true beside it", "top_logprobs")
    offered = openai_options.read_tools(fields.tools or [], ignored)
    choice, tools = openai_options.read_tool_choice(fields.tool_choice, fields.parallel_tool_calls, offered, ignored)
    request = GenerationRequest(
        request_id=request_id,
        model=fields.model,
        messages=_messages(fields.messages, ignored),
        tools=tools,
        tool_choice=choice,
        sampling=openai_options.read_sampling(fields),
        max_tokens=fields.max_completion_tokens or fields.max_tokens,
        stop=openai_options.read_stop(fields.stop),
        reasoning=_reasoning(fields),
        session=fields.prompt_cache_key or "",
        template_options=_template_options(fields.chat_template_kwargs),
        output_format=openai_options.read_output_format(fields.response_format, fields.structured_outputs),
        num_answers=fields.n or 1,
        logprobs=(fields.top_logprobs or 0) if fields.logprobs else None,
    )
    ignored.log(request_id)
    include_usage = bool(fields.stream_options and fields.stream_options.include_usage)
    return Call(request, bool(fields.stream), include_usage)


def _messages(items: list[MessageItem], ignored: Ignored) -> tuple[Message, ...]:
    arguments_size = JsonSize()
    return tuple(_message(item, f"messages.{index}", ignored, arguments_size) for index, item in enumerate(items))


def _message(item: MessageItem, path: str, ignored: Ignored, arguments_size: JsonSize) -> Message:
    parts = openai_content.read_content(item.content, f"{path}.content", ignored)
    match item.role:
        case "system" | "developer" | "user":
            return Message(Role(item.role), parts)
        case "assistant":
            return _assistant(item, path, parts, arguments_size)
        case "tool" if item.tool_call_id is None:
            raise InvalidRequest("Field required", f"{path}.tool_call_id")
        case "tool" | "function":
            return Message(Role.TOOL, (ToolResult(item.tool_call_id or "", parts, item.name or ""),))
    raise InvalidRequest(f"{item.role!r} is not one of system, developer, user, assistant, tool", f"{path}.role")


def _assistant(item: MessageItem, path: str, content: tuple[Part, ...], arguments_size: JsonSize) -> Message:
    reasoning = item.reasoning_content or item.reasoning
    parts: list[Part] = [Reasoning(reasoning)] if reasoning else []
    parts.extend(part for part in content if part != Text(""))
    for index, call in enumerate(item.tool_calls or []):
        parts.append(openai_content.read_tool_call(call, f"{path}.tool_calls.{index}", arguments_size))
    if item.function_call is not None:
        parts.append(openai_content.read_function("", item.function_call, f"{path}.function_call", arguments_size))
    return Message(Role.ASSISTANT, tuple(parts))


def _template_options(options: Object | None) -> Object:
    if options is None:
        return {}
    wire.check_depth(options, "chat_template_kwargs")
    wire.convert(options, TemplateOptions, "chat_template_kwargs")
    return options


def _reasoning(fields: Body) -> ReasoningOptions:
    """The effort asked for, or the switch templates know as `enable_thinking`."""
    if fields.reasoning_effort is not None:
        return openai_options.read_effort(fields.reasoning_effort, "reasoning_effort")
    switch = (fields.chat_template_kwargs or {}).get("enable_thinking")
    return ReasoningOptions(enabled=switch if isinstance(switch, bool) else None)
