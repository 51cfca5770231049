"""The Anthropic Messages API: `POST /v1/messages` and `POST /v1/messages/count_tokens`.

Two decisions of this dialect: `thinking.display` is not obeyed, because thinking that comes back in the
history is what lets the prompt's prefix be reused; and `max_tokens` 0, which the API has for warming the
cache, generates one token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from ..errors import InvalidRequest
from ..requests import (
    GenerationRequest,
    JsonSchema,
    Message,
    OutputFormat,
    ReasoningOptions,
    Role,
    SamplingParams,
    Text,
    ToolChoice,
    ToolDefinition,
    ToolMode,
)
from . import anthropic_content, anthropic_stream, wire
from .base import Answer, Encoder
from .wire import Ignored, Object

PROMPT_FIELD = "messages"
encode_error = anthropic_stream.encode_error

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_TOOL_MODES = {"auto": ToolMode.AUTO, "any": ToolMode.REQUIRED, "tool": ToolMode.NAMED, "none": ToolMode.NONE}
_THINKING = {"enabled": True, "disabled": False, "adaptive": None, "between_tools": None}

BILLING_HEADER = "x-anthropic-billing-header:"
"""Begins a line of Claude Code's, most often a system block of its own, that changes with each conversation and means
nothing to a model."""
_BILLING = re.compile(rf"\A{BILLING_HEADER}[^\r\n]*\s*")

_COUNTDOWN = re.compile(r"\s{0,2}<total_tokens>-?\d{1,20} tokens left</total_tokens>")
"""Claude Code's own bookkeeping: another number at every turn, in texts of the system's."""


class MessageItem(msgspec.Struct):
    role: str
    content: str | list[Object]


class Tool(msgspec.Struct):
    name: wire.Name
    input_schema: Object
    description: str | None = None
    defer_loading: bool | None = None


class ToolChoiceItem(msgspec.Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    type: str
    budget_tokens: wire.TokenLimit | None = None


class Format(msgspec.Struct):
    type: str
    schema: Object | None = None


class OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: Format | None = None


class Metadata(msgspec.Struct):
    user_id: str | None = None


class UserId(msgspec.Struct):
    """What Claude Code writes as JSON into `metadata.user_id`."""

    session_id: str = ""


class CountBody(msgspec.Struct, kw_only=True):
    """What `count_tokens` takes: the part of a request that makes the prompt."""

    model: str
    messages: Annotated[list[MessageItem], msgspec.Meta(min_length=1, max_length=100_000)]
    system: str | list[Object] | None = None
    tools: list[Object] | None = None
    tool_choice: ToolChoiceItem | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class Body(CountBody, kw_only=True):
    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    stream: bool | None = None
    stop_sequences: wire.Stops | None = None
    temperature: wire.Temperature | None = None
    top_p: wire.Probability | None = None
    top_k: wire.TopK | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Call:
    request: GenerationRequest
    stream: bool
    keeps_body = False

    def encoder(self) -> Encoder:
        return anthropic_stream.MessagesEncoder(self.request.request_id, self.request.model)

    def encode_answer(self, answer: Answer) -> bytes:
        return anthropic_stream.encode_answer(self.request.request_id, self.request.model, answer)


def decode(body: bytes, request_id: str) -> Call:
    """The call a `POST /v1/messages` body asks for."""
    fields = wire.decode_body(body, Body)
    ignored = Ignored()
    ignored.add_unknown_fields(body, Body)
    request = _request(fields, request_id, ignored)
    ignored.log(request_id)
    return Call(_with_sampling(request, fields), bool(fields.stream))


def decode_count_tokens(body: bytes, request_id: str) -> GenerationRequest:
    """The request whose prompt a `count_tokens` body wants counted."""
    ignored = Ignored()
    request = _request(wire.decode_body(body, CountBody), request_id, ignored)
    ignored.log(request_id)
    return request


def _request(fields: CountBody, request_id: str, ignored: Ignored) -> GenerationRequest:
    tools = _tools(fields.tools or [], ignored)
    return GenerationRequest(
        request_id=request_id,
        model=fields.model,
        messages=_messages(fields, ignored),
        tools=tools,
        tool_choice=_tool_choice(fields.tool_choice, tools, _hosted(fields.tools or [])),
        reasoning=_reasoning(fields.thinking, fields.output_config),
        output_format=_output_format(fields.output_config),
    )


def _with_sampling(request: GenerationRequest, fields: Body) -> GenerationRequest:
    return replace(
        request,
        sampling=SamplingParams(
            temperature=fields.temperature,
            top_p=fields.top_p,
            top_k=None if fields.top_k is None else max(fields.top_k, 0),
        ),
        max_tokens=max(fields.max_tokens, 1),
        stop=tuple(stop for stop in fields.stop_sequences or () if stop),
        session=_session(fields.metadata),
    )


def _messages(fields: CountBody, ignored: Ignored) -> tuple[Message, ...]:
    messages: list[Message] = []
    if fields.system:
        messages.extend(_without_bookkeeping(Role.SYSTEM, fields.system, "system", ignored))
    for index, item in enumerate(fields.messages):
        role = _ROLES.get(item.role)
        if role is None:
            raise InvalidRequest(f"{item.role!r} is not one of user, assistant, system", f"messages.{index}.role")
        path = f"messages.{index}.content"
        read = _without_bookkeeping if role is Role.SYSTEM else anthropic_content.read_messages
        messages.extend(read(role, item.content, path, ignored))
    return tuple(messages)


def _without_bookkeeping(role: Role, content: str | list[Object], path: str, ignored: Ignored) -> list[Message]:
    """Messages of the system's, without the texts that change from turn to turn and tell the model nothing."""
    kept: list[Message] = []
    for message in anthropic_content.read_messages(role, content, path, ignored):
        parts = tuple(
            Text(_BILLING.sub("", _COUNTDOWN.sub("", part.text))) if isinstance(part, Text) else part
            for part in message.parts
        )
        parts = tuple(part for part in parts if part != Text(""))
        if parts:
            kept.append(Message(message.role, parts))
    return kept


def _tools(items: list[Object], ignored: Ignored) -> tuple[ToolDefinition, ...]:
    tools: list[ToolDefinition] = []
    for index, item in enumerate(items):
        path = f"tools.{index}"
        if item.get("type") not in (None, "custom"):
            ignored.add(path, item["type"])
            continue
        tool = wire.convert(item, Tool, path)
        wire.check_depth(tool.input_schema, f"{path}.input_schema")
        deferred = bool(tool.defer_loading)
        tools.append(ToolDefinition(tool.name, tool.description or "", tool.input_schema, deferred))
    return wire.unique_tools(tools, "tools")


def _hosted(items: list[Object]) -> list[object]:
    """The names of the tools that their maker hosts, and that are ignored here."""
    return [item.get("name") for item in items if item.get("type") not in (None, "custom")]


def _tool_choice(
    choice: ToolChoiceItem | None, tools: tuple[ToolDefinition, ...], ignored_names: list[object]
) -> ToolChoice:
    if choice is None or (choice.type == "tool" and choice.name in ignored_names):
        return ToolChoice()
    mode = _TOOL_MODES.get(choice.type)
    if mode is None:
        raise InvalidRequest(f"{choice.type!r} is not one of auto, any, tool, none", "tool_choice.type")
    if mode is ToolMode.REQUIRED and not tools:
        raise InvalidRequest("asks for a tool, but the request has none that this server can offer", "tool_choice")
    name = wire.require_tool(choice.name or "", tools, "tool_choice.name") if mode is ToolMode.NAMED else ""
    return ToolChoice(mode, name, parallel=not choice.disable_parallel_tool_use)


def _reasoning(thinking: Thinking | None, config: OutputConfig | None) -> ReasoningOptions:
    effort = config.effort if config else None
    wire.check_one_of(effort, wire.EFFORTS, "output_config.effort")
    if thinking is None:
        return ReasoningOptions(effort=effort)
    if thinking.type not in _THINKING:
        raise InvalidRequest(f"{thinking.type!r} is not one of {', '.join(_THINKING)}", "thinking.type")
    enabled = _THINKING[thinking.type]
    return ReasoningOptions(enabled, effort, thinking.budget_tokens if enabled else None)


def _output_format(config: OutputConfig | None) -> OutputFormat | None:
    if config is None or config.format is None:
        return None
    path = "output_config.format"
    if config.format.type != "json_schema" or config.format.schema is None:
        raise InvalidRequest("must be of type json_schema, with a schema", path)
    wire.check_depth(config.format.schema, f"{path}.schema")
    return JsonSchema(config.format.schema, f"{path}.schema")


def _session(metadata: Metadata | None) -> str:
    """Claude Code's `user_id` is a JSON text that names its session."""
    if metadata is None or not metadata.user_id or not metadata.user_id.startswith("{"):
        return ""
    try:
        return msgspec.json.decode(metadata.user_id, type=UserId).session_id
    except (msgspec.DecodeError, RecursionError):
        return ""
