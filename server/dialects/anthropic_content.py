"""Content blocks of the Messages API, read into messages of ours."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..errors import InvalidRequest
from ..requests import Image, Message, Part, Reasoning, Role, Text, ToolCall, ToolReference, ToolResult
from .wire import UNREAD_FILE, Ignored, Object, check_depth, convert, decode_image


class TextBlock(msgspec.Struct):
    text: str


class Source(msgspec.Struct):
    type: str
    media_type: str = ""
    data: str = ""


class ImageBlock(msgspec.Struct):
    source: Source


class DocumentBlock(msgspec.Struct):
    source: Object
    title: str | None = None


class SearchResultBlock(msgspec.Struct):
    source: str
    title: str
    content: list[TextBlock]


class ThinkingBlock(msgspec.Struct):
    thinking: str
    signature: str | None = None


class ToolUseBlock(msgspec.Struct):
    id: str
    name: str
    input: Object


class ToolResultBlock(msgspec.Struct):
    tool_use_id: str
    content: str | list[Object] | None = None
    is_error: bool | None = None


class ToolReferenceBlock(msgspec.Struct):
    tool_name: str


def read_messages(role: Role, content: str | list[Object], path: str, ignored: Ignored) -> list[Message]:
    """The messages one item of `messages` stands for.

    Every tool result becomes a message of its own, with the role `tool`; what stands around it keeps its place.
    """
    if isinstance(content, str):
        return [Message(role, (Text(content),))]
    messages: list[Message] = []
    run: list[Part] = []
    for index, block in enumerate(content):
        part = read_block(block, f"{path}.{index}", ignored)
        if isinstance(part, ToolResult):
            if run:
                messages.append(Message(role, tuple(run)))
                run = []
            messages.append(Message(Role.TOOL, (part,)))
        elif part is not None:
            run.append(part)
    if run:
        messages.append(Message(role, tuple(run)))
    return messages


def read_block(block: Object, path: str, ignored: Ignored) -> Part | None:
    """The part a block stands for; `None`, with a note, for a kind this server does not know."""
    kind = block_type(block, path)
    if kind == "tool_result":
        return _read_tool_result(block, path, ignored)
    read = _BLOCKS.get(kind)
    part = read(block, path) if read else None
    if part is None:
        ignored.add(path, kind)
    return part


def block_type(block: Object, path: str) -> str:
    kind = block.get("type")
    if not isinstance(kind, str):
        raise InvalidRequest("Field required, a string", f"{path}.type")
    return kind


def _read_text(block: Object, path: str) -> Text:
    return Text(convert(block, TextBlock, path).text)


def _read_image(block: Object, path: str) -> Image:
    source = convert(block, ImageBlock, path).source
    if source.type != "base64":
        raise InvalidRequest("send the image in base64; this server fetches nothing", f"{path}.source.type")
    return decode_image(source.media_type, source.data, f"{path}.source.data")


def _read_document(block: Object, path: str) -> Text:
    """A text with its title. Of any other, the title and that it was there."""
    document = convert(block, DocumentBlock, path)
    is_text = document.source.get("type") == "text"
    text = convert(document.source, Source, f"{path}.source").data if is_text else UNREAD_FILE
    return Text(f"{document.title}\n{text}" if document.title else text)


def _read_search_result(block: Object, path: str) -> Text:
    found = convert(block, SearchResultBlock, path)
    return Text("\n".join([found.title, found.source, *(text.text for text in found.content)]))


def _read_thinking(block: Object, path: str) -> Reasoning:
    thinking = convert(block, ThinkingBlock, path)
    return Reasoning(thinking.thinking, thinking.signature or "")


def _read_tool_use(block: Object, path: str) -> ToolCall:
    call = convert(block, ToolUseBlock, path)
    check_depth(call.input, f"{path}.input")
    return ToolCall(call.id, call.name, msgspec.json.encode(call.input).decode())


_BLOCKS: dict[str, Callable[[Object, str], Text | Image | Reasoning | ToolCall | None]] = {
    "text": _read_text,
    "image": _read_image,
    "document": _read_document,
    "search_result": _read_search_result,
    "thinking": _read_thinking,
    "tool_use": _read_tool_use,
}


def _read_tool_result(block: Object, path: str, ignored: Ignored) -> ToolResult:
    result = convert(block, ToolResultBlock, path)
    if isinstance(result.content, str):
        parts: list[Text | Image | ToolReference] = [Text(result.content)]
    else:
        parts = []
        for index, inner in enumerate(result.content or []):
            part = _read_result_block(inner, f"{path}.content.{index}", ignored)
            if part is not None:
                parts.append(part)
    return ToolResult(result.tool_use_id, tuple(parts), is_error=bool(result.is_error))


def _read_result_block(block: Object, path: str, ignored: Ignored) -> Text | Image | ToolReference | None:
    match block_type(block, path):
        case "text":
            return _read_text(block, path)
        case "image":
            return _read_image(block, path)
        case "tool_reference":
            return ToolReference(convert(block, ToolReferenceBlock, path).tool_name)
        case "document":
            return _read_document(block, path)
        case "search_result":
            return _read_search_result(block, path)
    ignored.add(path, block["type"])
    return None
