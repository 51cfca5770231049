"""The OpenAI Responses API: `POST /v1/responses`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from ..errors import InvalidRequest, OmlxError
from ..events import Finished, Logprobs, ReasoningDelta, TextDelta, ToolCallDelta
from ..requests import (
    GenerationRequest,
    JsonObject,
    Message,
    OutputFormat,
    ReasoningOptions,
    Role,
    SamplingParams,
    Text,
)
from . import openai_errors, openai_options, wire
from .base import Answer, Encoder
from .openai_response_store import ResponseStore, SessionTools, StoredResponse
from .openai_responses_input import InputReader
from .openai_responses_stream import ResponsesEncoder
from .openai_responses_tools import Toolbox, read_tool_choice, read_tools
from .sse import encode, response_id
from .wire import Ignored, Object


class ReasoningFields(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None


class TextFormat(msgspec.Struct, omit_defaults=True):
    type: str
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    schema: Object | None = None


class TextFields(msgspec.Struct):
    format: TextFormat | None = None
    verbosity: str | None = None


class Body(msgspec.Struct, kw_only=True):
    model: str
    input: str | Annotated[list[Object], msgspec.Meta(max_length=100_000)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    store: bool | None = None
    tools: list[Object] | None = None
    tool_choice: str | Object | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningFields | None = None
    text: TextFields | None = None
    max_output_tokens: wire.TokenLimit | None = None
    temperature: wire.Temperature | None = None
    top_p: wire.Probability | None = None
    top_k: wire.TopK | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    truncation: str | None = None
    max_tool_calls: wire.TokenLimit | None = None
    """Of tools that a maker hosts, so none of this server's."""
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    background: bool | None = None
    conversation: str | Object | None = None
    prompt: Object | None = None


@dataclass(frozen=True, slots=True)
class Call:
    request: GenerationRequest
    stream: bool
    head: Object
    toolbox: Toolbox
    has_summary: bool
    on_finish: Callable[[Object], None]
    keeps_body = True

    def encoder(self) -> Encoder:
        return ResponsesEncoder(self.head, self.toolbox, self.has_summary, self.on_finish)

    def encode_answer(self, answer: Answer) -> bytes:
        """The response that the stream of the same answer ends with."""
        finished: list[Object] = []

        def keep(response: Object) -> None:
            self.on_finish(response)
            finished.append(response)

        encoder = ResponsesEncoder(self.head, self.toolbox, self.has_summary, keep)
        encoder.feed(Logprobs(answer.logprobs))
        for index, segment in enumerate(answer.segments):
            if isinstance(segment, TextDelta | ReasoningDelta):
                encoder.feed(segment)
            else:
                encoder.feed(ToolCallDelta(index, segment.call_id, segment.name, segment.arguments))
        encoder.finish(Finished(answer.reason, answer.usage, answer.stop_sequence))
        return encode(finished[0])


class ResponsesDialect:
    """The dialect with the memory that the API gives it: what is not stored is only answered."""

    PROMPT_FIELD = "input"

    def __init__(self, store: ResponseStore, session_tools: SessionTools | None = None, owner: str = "") -> None:
        self._store = store
        self._session_tools = session_tools or SessionTools()
        self._owner = owner

    def of(self, owner: str) -> ResponsesDialect:
        """The same, for requests of this namespace: what another's left behind is not there for them."""
        return ResponsesDialect(self._store, self._session_tools, owner)

    def decode(self, body: bytes, request_id: str) -> Call:
        """The call a `POST /v1/responses` body asks for."""
        fields = wire.decode_body(body, Body)
        ignored = Ignored()
        ignored.add_unknown_fields(body, Body)
        _refuse_unserved(fields)
        toolbox = Toolbox()
        earlier, new = self._earlier(fields.previous_response_id), self._new(fields.input or [])
        items = [*earlier, *new]
        recalled = self._recalled_tools(fields, items)
        for entry in fields.include or ():
            if entry not in _INCLUDED:
                ignored.add("include", entry)
        read_tools(toolbox, fields.tools or recalled, "tools", ignored)
        messages = _read_messages(fields.instructions, earlier, new, InputReader(toolbox, ignored))
        # Recalled tools keep the prompt's beginning as it was; they are not there to be called.
        wanted = "none" if recalled else fields.tool_choice
        choice, tools = read_tool_choice(wanted, fields.parallel_tool_calls, toolbox, ignored)
        request = GenerationRequest(
            request_id=request_id,
            model=fields.model,
            messages=tuple(messages),
            tools=tools,
            tool_choice=choice,
            sampling=SamplingParams(
                temperature=fields.temperature,
                top_p=fields.top_p,
                top_k=None if fields.top_k is None else max(fields.top_k, 0),
            ),
            max_tokens=fields.max_output_tokens,
            reasoning=_reasoning(fields.reasoning),
            logprobs=_num_logprobs(fields),
            session=fields.prompt_cache_key or "",
            output_format=_output_format(fields.text),
        )
        ignored.log(request_id)
        head = _head(fields, response_id("resp_", request_id))
        has_summary = bool(fields.reasoning and fields.reasoning.summary)
        return Call(request, bool(fields.stream), head, toolbox, has_summary, self._keeper(fields, items))

    def encode_error(self, error: OmlxError, request_id: str) -> bytes:
        return openai_errors.encode_error(error, request_id)

    def _recalled_tools(self, fields: Body, items: list[Object]) -> list[Object]:
        """The session's own tools, for a request that goes on with it and expressly offers none."""
        session = fields.prompt_cache_key
        if not session or fields.tools is None:
            return []
        session = f"{self._owner}\0{session}"
        if fields.tools:
            self._session_tools.remember(session, fields.tools, items)
            return []
        return self._session_tools.recall(session, items)

    def _earlier(self, previous: str | None) -> list[Object]:
        if previous is None:
            return []
        stored = self._store.get(previous, self._owner)
        if stored is None:
            message = f"no response {previous!r} is stored (any more); send the whole conversation as input"
            raise InvalidRequest(message, "previous_response_id")
        return stored.items

    def _new(self, given: str | list[Object]) -> list[Object]:
        """The input as items, with references to items of stored responses replaced by those."""
        if isinstance(given, str):
            return [{"role": "user", "content": given}]
        seen: set[str] = set()
        return [
            self._item(str(item.get("id")), f"input.{index}.id", seen) if item.get("type") == "item_reference" else item
            for index, item in enumerate(given)
        ]

    def _item(self, item_id: str, path: str, seen: set[str]) -> Object:
        """The stored item; what was `seen` before is refused, as the API has it."""
        if item_id in seen:
            raise InvalidRequest(f"refers to {item_id!r} a second time", path)
        seen.add(item_id)
        item = self._store.item(item_id, self._owner)
        if item is None:
            raise InvalidRequest(f"no item {item_id!r} is stored; send the item itself", path)
        return item

    def _keeper(self, fields: Body, items: list[Object]) -> Callable[[Object], None]:
        """Stores a finished response, unless the client asked not to."""
        if fields.store is False:
            return lambda _: None
        before = encode(items)

        def keep(response: Object) -> None:
            output = {item["id"]: encode(item) for item in response["output"]}
            self._store.put(StoredResponse(response["id"], before, output, encode(response), self._owner))

        return keep


def _read_messages(
    instructions: str | None, earlier: list[Object], new: list[Object], reader: InputReader
) -> list[Message]:
    """The messages after the instructions. Those of previous responses are not carried over, as the API has it."""
    reader.read_tools(earlier, "previous_response_id")
    reader.read_tools(new, "input")
    messages = [Message(Role.SYSTEM, (Text(instructions),))] if instructions else []
    messages += reader.read_messages(earlier, "previous_response_id")
    messages += reader.read_messages(new, "input")
    if not messages:
        raise InvalidRequest("holds nothing to answer", "input")
    return messages


def _refuse_unserved(fields: Body) -> None:
    """Refuse what would change the answer were it ignored."""
    if fields.background:
        raise InvalidRequest("this server answers in the foreground only; leave it out", "background")
    if fields.conversation is not None:
        raise InvalidRequest("this server keeps no conversations; use previous_response_id or input", "conversation")
    wire.check_one_of(fields.truncation, ("auto", "disabled"), "truncation")
    if fields.reasoning is not None:
        wire.check_one_of(fields.reasoning.summary, ("auto", "concise", "detailed"), "reasoning.summary")
    if fields.text is not None:
        wire.check_one_of(fields.text.verbosity, ("low", "medium", "high"), "text.verbosity")
    if fields.prompt is not None:
        raise InvalidRequest("this server keeps no prompt templates; send the prompt as input", "prompt")


def _num_logprobs(fields: Body) -> int | None:
    wanted = "message.output_text.logprobs" in (fields.include or ())
    return fields.top_logprobs or 0 if wanted or fields.top_logprobs else None


def _reasoning(fields: ReasoningFields | None) -> ReasoningOptions:
    if fields is None or fields.effort is None:
        return ReasoningOptions()
    return openai_options.read_effort(fields.effort, "reasoning.effort")


def _output_format(fields: TextFields | None) -> OutputFormat | None:
    if fields is None or fields.format is None:
        return None
    match fields.format.type:
        case "text":
            return None
        case "json_object":
            return JsonObject()
        case "json_schema" if fields.format.schema is not None:
            return openai_options.json_schema(fields.format.schema, "text.format.schema")
        case "json_schema":
            raise InvalidRequest("Field required", "text.format.schema")
    raise InvalidRequest(f"{fields.format.type!r} is not one of text, json_object, json_schema", "text.format.type")


def _head(fields: Body, identity: str) -> Object:
    """The response object as far as the request fills it."""
    return {
        "id": identity,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "model": fields.model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": fields.instructions,
        "max_output_tokens": fields.max_output_tokens,
        "metadata": fields.metadata or {},
        "parallel_tool_calls": fields.parallel_tool_calls is not False,
        "previous_response_id": fields.previous_response_id,
        "prompt_cache_key": fields.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None} | (msgspec.to_builtins(fields.reasoning) or {}),
        "store": fields.store is not False,
        "temperature": fields.temperature,
        "text": _text(fields.text),
        "tool_choice": fields.tool_choice or "auto",
        "tools": fields.tools or [],
        "top_logprobs": fields.top_logprobs or 0,
        "top_p": fields.top_p,
        "truncation": fields.truncation or "disabled",
        "max_tool_calls": fields.max_tool_calls,
        "usage": None,
    }


_INCLUDED = ("reasoning.encrypted_content", "message.output_text.logprobs")


def _text(fields: TextFields | None) -> Object:
    """As it was asked for; the API needs a format's name, which this server does not."""
    told: Object = {"format": {"type": "text"}}
    if fields is not None and fields.format is not None:
        told["format"] = msgspec.to_builtins(fields.format)
        if fields.format.type == "json_schema":
            told["format"].setdefault("name", "answer")
    if fields is not None and fields.verbosity is not None:
        told["verbosity"] = fields.verbosity
    return told
