"""The options that the OpenAI dialects share: sampling, stop sequences, tools, formats of the answer."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..errors import InvalidRequest
from ..requests import (
    Choice,
    Grammar,
    JsonObject,
    JsonSchema,
    OutputFormat,
    ReasoningOptions,
    Regex,
    SamplingParams,
    ToolChoice,
    ToolDefinition,
    ToolMode,
)
from . import wire
from .wire import Ignored, Object

_OWN_TOOLS = ("function", "custom")


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class SamplingFields(msgspec.Struct, kw_only=True):
    """What chat and plain completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: wire.TokenLimit | None = None
    n: wire.NumAnswers | None = None
    stop: str | wire.Stops | None = None
    temperature: wire.Temperature | None = None
    top_p: wire.Probability | None = None
    top_k: wire.TopK | None = None
    min_p: wire.Probability | None = None
    repetition_penalty: wire.RepetitionPenalty | None = None
    presence_penalty: wire.Penalty | None = None
    frequency_penalty: wire.Penalty | None = None
    seed: wire.Seed | None = None
    logit_bias: Annotated[dict[str, wire.Bias], msgspec.Meta(max_length=1024)] | None = None


class Function(msgspec.Struct):
    name: wire.Name
    description: str | None = None
    parameters: Object | None = None


class JsonSchemaFormat(msgspec.Struct):
    schema: Object | None = None


class ResponseFormat(msgspec.Struct):
    type: str
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(msgspec.Struct):
    """The field that local servers share; exactly one of these is set."""

    json: Object | str | None = None
    regex: wire.Pattern | None = None
    choice: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1024)] | None = None
    grammar: wire.Pattern | None = None
    json_object: bool | None = None


class AllowedTools(msgspec.Struct):
    mode: str
    tools: list[Object]


def read_sampling(fields: SamplingFields) -> SamplingParams:
    """The sampling parameters."""
    return SamplingParams(
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=None if fields.top_k is None else max(fields.top_k, 0),
        min_p=fields.min_p,
        repetition_penalty=fields.repetition_penalty,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        seed=fields.seed,
        logit_bias=_read_logit_bias(fields.logit_bias),
    )


def _read_logit_bias(bias: dict[str, float] | None) -> tuple[tuple[int, float], ...] | None:
    if bias is None:
        return None
    for token in bias:
        if not (token.isascii() and token.isdigit() and len(token) <= 9):
            raise InvalidRequest(f"{token!r} is not a token id", "logit_bias")
    return tuple((int(token), value) for token, value in bias.items())


def read_stop(stop: str | list[str] | None) -> tuple[str, ...]:
    """The stop sequences, empty ones left out."""
    sequences = [stop] if isinstance(stop, str) else stop or []
    for index, sequence in enumerate(sequences):
        if len(sequence) > wire.MAX_STOP_LENGTH:
            path = "stop" if isinstance(stop, str) else f"stop.{index}"
            raise InvalidRequest(f"longer than {wire.MAX_STOP_LENGTH} characters", path)
    return tuple(sequence for sequence in sequences if sequence)


def read_effort(effort: str, path: str) -> ReasoningOptions:
    """`none` switches thinking off; any other effort switches it on, and reaches the template as it is."""
    wire.check_one_of(effort, ("none", *wire.EFFORTS), path)
    if effort == "none":
        return ReasoningOptions(enabled=False)
    return ReasoningOptions(enabled=True, effort=effort)


def read_tools(items: list[Object], ignored: Ignored) -> tuple[ToolDefinition, ...]:
    """The function tools of a chat request; other kinds are ignored."""
    tools: list[ToolDefinition] = []
    for index, item in enumerate(items):
        path = f"tools.{index}"
        if item.get("type", "function") == "function":
            tools.append(read_function(item.get("function"), f"{path}.function"))
        else:
            ignored.add(path, item["type"])
    return wire.unique_tools(tools, "tools")


def read_function(item: object, path: str) -> ToolDefinition:
    function = wire.convert(item, Function, path)
    parameters = function.parameters or {"type": "object", "properties": {}}
    wire.check_depth(parameters, f"{path}.parameters")
    return ToolDefinition(function.name, function.description or "", parameters)


def read_tool_choice(
    choice: str | Object | None, parallel: bool | None, tools: tuple[ToolDefinition, ...], ignored: Ignored
) -> tuple[ToolChoice, tuple[ToolDefinition, ...]]:
    """The choice, and the tools it leaves: `allowed_tools` is a choice among fewer tools."""
    is_parallel = parallel is not False
    if choice is None:
        return ToolChoice(parallel=is_parallel), tools
    if isinstance(choice, str):
        return ToolChoice(_read_mode(choice, tools), parallel=is_parallel), tools
    path = "tool_choice"
    match choice.get("type"):
        case "allowed_tools":
            allowed = wire.convert(choice.get("allowed_tools", choice), AllowedTools, path)
            names = {_named(item, f"{path}.tools") for item in allowed.tools if item.get("type") in _OWN_TOOLS}
            tools = tuple(tool for tool in tools if tool.name in names)
            return ToolChoice(_read_mode(allowed.mode, tools), parallel=is_parallel), tools
        case "function" | "custom":
            name = wire.require_tool(_named(choice, path), tools, path)
            return ToolChoice(ToolMode.NAMED, name, is_parallel), tools
        case str() as kind if ignored.has(kind):  # one of the tools was of this kind, which a maker hosts
            ignored.add(path, kind)
            return ToolChoice(parallel=is_parallel), tools
    raise InvalidRequest("its type is not one of function, custom, allowed_tools", f"{path}.type")


def _read_mode(mode: str, tools: tuple[ToolDefinition, ...]) -> ToolMode:
    if mode not in ("auto", "none", "required"):
        raise InvalidRequest(f"{mode!r} is not one of auto, none, required", "tool_choice")
    if mode == "required" and not tools:
        raise InvalidRequest("asks for a tool, but the request has none that this server can offer", "tool_choice")
    return ToolMode(mode)


def _named(choice: Object, path: str) -> str:
    """The name in `{"type": "function", "function": {"name": …}}`, or in the flat form of Responses."""
    inner = choice.get(str(choice.get("type")), choice)
    name = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest("names no tool", path)
    return name


def read_output_format(response_format: Object | None, structured: Object | None) -> OutputFormat | None:
    """What `response_format`, or else `structured_outputs`, asks the text to be."""
    if response_format is not None:
        path = "response_format"
        wanted = wire.convert(response_format, ResponseFormat, path)
        match wanted.type:
            case "text":
                pass
            case "json_object":
                return JsonObject()
            case "json_schema":
                if wanted.json_schema is None or wanted.json_schema.schema is None:
                    raise InvalidRequest("Field required", f"{path}.json_schema.schema")
                return json_schema(wanted.json_schema.schema, f"{path}.json_schema.schema")
            case _:
                message = f"{wanted.type!r} is not one of text, json_object, json_schema"
                raise InvalidRequest(message, f"{path}.type")
    return _read_structured(structured) if structured is not None else None


def _read_structured(value: Object) -> OutputFormat | None:
    path = "structured_outputs"
    wanted = wire.convert(value, StructuredOutputs, path)
    formats: list[OutputFormat] = []
    if wanted.json is not None:
        schema = _read_schema(wanted.json, f"{path}.json") if isinstance(wanted.json, str) else wanted.json
        formats.append(json_schema(schema, f"{path}.json"))
    if wanted.regex is not None:
        formats.append(Regex(wanted.regex, f"{path}.regex"))
    if wanted.choice is not None:
        formats.append(Choice(tuple(wanted.choice), f"{path}.choice"))
    if wanted.grammar is not None:
        formats.append(Grammar(wanted.grammar, f"{path}.grammar"))
    if wanted.json_object:
        formats.append(JsonObject())
    if len(formats) > 1:
        raise InvalidRequest("asks for more than one format; set one of its fields", path)
    return formats[0] if formats else None


def _read_schema(text: str, path: str) -> Object:
    try:
        return wire.decode_body(text.encode(), Object)
    except InvalidRequest as error:
        raise InvalidRequest(f"is no JSON object: {error}", path) from None


def json_schema(schema: Object, path: str) -> JsonSchema:
    wire.check_depth(schema, path)
    return JsonSchema(schema, path)
