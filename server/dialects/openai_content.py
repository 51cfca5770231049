"""Content parts and calls in OpenAI's words, read into parts of ours."""

from __future__ import annotations

import msgspec

from ..errors import InvalidRequest
from ..json_size import JsonSize
from ..requests import Image, Text, ToolCall
from .wire import UNREAD_FILE, Ignored, Object, check_arguments, check_depth, convert, decode_image_url

_UNREAD = frozenset(
    {"file", "input_file", "input_audio", "audio_url", "input_video", "video_url", "video", "image", "audio"}
)
"""OpenAI's kinds, and those that other servers' clients send."""


class TextPart(msgspec.Struct):
    text: str


class RefusalPart(msgspec.Struct):
    refusal: str


class ImageUrl(msgspec.Struct):
    url: str


class ImagePart(msgspec.Struct):
    image_url: ImageUrl | str


class FunctionCall(msgspec.Struct):
    name: str
    arguments: str | Object | None = None


class CustomCall(msgspec.Struct):
    name: str
    input: str


class ToolCallItem(msgspec.Struct):
    id: str
    function: Object | None = None
    custom: CustomCall | None = None


def read_content(content: str | list[Object] | None, path: str, ignored: Ignored) -> tuple[Text | Image, ...]:
    """The parts of a message's or a tool result's content; a text alone is a list of one text."""
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    parts = (read_part(item, f"{path}.{index}", ignored) for index, item in enumerate(content))
    return tuple(part for part in parts if part is not None)


def read_part(item: Object, path: str, ignored: Ignored) -> Text | Image | None:
    """The part an item stands for; `None`, with a note, for a kind this server does not know."""
    match item.get("type"):
        case "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text":
            return Text(convert(item, TextPart, path).text)
        case "refusal":
            return Text(convert(item, RefusalPart, path).refusal)
        case "input_image" if item.get("image_url") is None:
            raise InvalidRequest(
                "Field required: send the image as a data: URL, this server keeps no files", f"{path}.image_url"
            )
        case "image_url" | "input_image":
            image = convert(item, ImagePart, path).image_url
            return decode_image_url(image if isinstance(image, str) else image.url, f"{path}.image_url")
        case str() as kind if kind in _UNREAD:
            return Text(UNREAD_FILE)
        case str() as kind:
            ignored.add(path, kind)
            return None
    raise InvalidRequest("Field required, a string", f"{path}.type")


def read_tool_call(item: Object, path: str, size: JsonSize) -> ToolCall:
    """A call out of `tool_calls`."""
    call = convert(item, ToolCallItem, path)
    if call.custom is not None:
        return ToolCall(call.id, call.custom.name, custom_arguments(call.custom.input))
    if call.function is None:
        raise InvalidRequest("Field required", f"{path}.function")
    return read_function(call.id, call.function, f"{path}.function", size)


def read_function(call_id: str, item: Object, path: str, size: JsonSize) -> ToolCall:
    function = convert(item, FunctionCall, path)
    arguments = function.arguments or ""
    if isinstance(arguments, dict):
        check_depth(arguments, f"{path}.arguments")
        arguments = msgspec.json.encode(arguments).decode()
    else:
        check_arguments(arguments, f"{path}.arguments", size)
    return ToolCall(call_id, function.name, arguments)


def custom_arguments(text: str) -> str:
    """A freeform call's input as the arguments of the function it is to the model."""
    return msgspec.json.encode({"input": text}).decode()
