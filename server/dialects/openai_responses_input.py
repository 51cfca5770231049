"""The `input` items of the Responses API, read into messages of ours."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..errors import InvalidRequest
from ..json_size import JsonSize
from ..requests import Image, Message, Reasoning, Role, Text, ToolCall, ToolResult
from . import openai_content
from .openai_responses_tools import Toolbox, read_tools
from .wire import Ignored, Object, check_arguments, convert

_ENCODED = "omlx1."
_ROLES = ("user", "system", "developer", "assistant")


class MessageItem(msgspec.Struct):
    role: str
    content: str | list[Object]


class ReasoningItem(msgspec.Struct):
    summary: list[Object] | None = None
    content: list[Object] | None = None
    encrypted_content: str | None = None


class FunctionCallItem(msgspec.Struct):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class CustomCallItem(msgspec.Struct):
    call_id: str
    name: str
    input: str
    namespace: str | None = None


class CallOutputItem(msgspec.Struct):
    call_id: str
    output: str | list[Object]
    name: str | None = None


class AdditionalTools(msgspec.Struct):
    tools: list[Object]


@dataclass(frozen=True, slots=True)
class InputReader:
    """Reads items in two passes: first the tools that stand among them, then the conversation."""

    toolbox: Toolbox
    ignored: Ignored
    arguments_size: JsonSize = field(default_factory=JsonSize)

    def read_tools(self, items: list[Object], path: str) -> None:
        for index, item in enumerate(items):
            if item.get("type") == "additional_tools":
                place = f"{path}.{index}"
                read_tools(self.toolbox, convert(item, AdditionalTools, place).tools, f"{place}.tools", self.ignored)

    def read_messages(self, items: list[Object], path: str) -> list[Message]:
        """The messages, one an item; items of other kinds are ignored."""
        messages = (self._read(item, f"{path}.{index}") for index, item in enumerate(items))
        return [message for message in messages if message is not None]

    def _read(self, item: Object, path: str) -> Message | None:
        match item.get("type", "message"):
            case "message":
                return self._message(convert(item, MessageItem, path), path)
            case "reasoning":
                return self._reasoning(convert(item, ReasoningItem, path), path)
            case "function_call":
                call = convert(item, FunctionCallItem, path)
                check_arguments(call.arguments, f"{path}.arguments", self.arguments_size)
                return self._call(call, call.arguments)
            case "custom_tool_call":
                call = convert(item, CustomCallItem, path)
                return self._call(call, openai_content.custom_arguments(call.input))
            case "function_call_output" | "custom_tool_call_output":
                output = convert(item, CallOutputItem, path)
                parts = self._parts(output.output, f"{path}.output")
                return Message(Role.TOOL, (ToolResult(output.call_id, parts, output.name or ""),))
            case "additional_tools":
                return None
            case str() as kind:
                self.ignored.add(path, kind)
                return None
        raise InvalidRequest("must be a string", f"{path}.type")

    def _message(self, item: MessageItem, path: str) -> Message:
        if item.role not in _ROLES:
            raise InvalidRequest(f"{item.role!r} is not one of {', '.join(_ROLES)}", f"{path}.role")
        return Message(Role(item.role), self._parts(item.content, f"{path}.content"))

    def _reasoning(self, item: ReasoningItem, path: str) -> Message | None:
        text = self._text(item.content, f"{path}.content")
        text = text or decode_reasoning(item.encrypted_content or "") or self._text(item.summary, f"{path}.summary")
        return Message(Role.ASSISTANT, (Reasoning(text),)) if text else None

    def _call(self, call: FunctionCallItem | CustomCallItem, arguments: str) -> Message:
        name = self.toolbox.name_of(call.namespace or "", call.name)
        return Message(Role.ASSISTANT, (ToolCall(call.call_id, name, arguments),))

    def _text(self, content: list[Object] | None, path: str) -> str:
        return "".join(part.text for part in self._parts(content, path) if isinstance(part, Text))

    def _parts(self, content: str | list[Any] | None, path: str) -> tuple[Text | Image, ...]:
        return openai_content.read_content(content, path, self.ignored)


def encode_reasoning(text: str) -> str:
    """`encrypted_content`: opaque to clients, and the whole text to this server, whatever they drop beside it."""
    return _ENCODED + base64.b64encode(text.encode()).decode()


def decode_reasoning(content: str) -> str:
    """The text in an `encrypted_content` of this server's; another's cannot be read."""
    if not content.startswith(_ENCODED):
        return ""
    try:
        return base64.b64decode(content.removeprefix(_ENCODED), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
