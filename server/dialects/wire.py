"""Reading a request body: bytes into msgspec structs, every fault an `InvalidRequest` with the field's path.

The bounds of the numbers stand in the field types below, so that a struct shows what it accepts.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec
from msgspec import Meta

from ..errors import InvalidRequest
from ..json_size import JsonSize
from ..requests import Image, ToolDefinition

logger = logging.getLogger(__name__)

Kind = TypeVar("Kind")

MAX_TOOLS = 1024
MAX_DEPTH = 100
"""Of the values a client nests freely (schemas, arguments), far below what a recursive reader stands."""

Object = dict[str, Any]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenBudget = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenLimit = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
TopK = Annotated[int, Meta(ge=-1, le=10_000_000)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
RepetitionPenalty = Annotated[float, Meta(gt=0, le=10)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
NumLogprobs = Annotated[int, Meta(ge=0, le=20)]
MAX_ANSWERS = 32
NumAnswers = Annotated[int, Meta(ge=1, le=MAX_ANSWERS)]
"""Each takes a row of the batch; OpenAI allows 128."""
Pattern = Annotated[str, Meta(min_length=1, max_length=65_536)]
MAX_STOP_LENGTH = 1024
Stop = Annotated[str, Meta(max_length=MAX_STOP_LENGTH)]
Stops = Annotated[list[Stop], Meta(max_length=32)]

EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
IMAGE_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")
_COMMON_IMAGES = ("image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp")

_NAME = re.compile(r"[a-z0-9_.-]{1,40}")
_PATH = re.compile(r" - at (?:`key` in )?`\$([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_HIGH = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE = re.compile(rb"%b(?!%b)|%b(?<!%b%b)" % (_HIGH, _LOW, _LOW, _HIGH, _LOW))
"""Of a text in which each backslash begins an escape."""

_MAX_TOLD = 256

UNREAD_FILE = "[A file stood here. This server reads text only.]"
"""In place of documents and sound: a model that is not told would guess what was in them."""


class Ignored:
    """What a request holds and this server leaves out, told in one line, cut short where it is long.

    The line is for everybody's eyes where a kind is in it that this process has not told of; agents send the same ones
    at every turn.
    """

    _told: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        self._items: list[str] = []
        self._kinds: set[str] = set()

    def add(self, path: str, what: object) -> None:
        kind = what if isinstance(what, str) else ""
        self._items.append(f"{path} ({_name_of(kind)})")
        self._kinds.add(kind)

    def has(self, kind: str) -> bool:
        return kind in self._kinds

    def add_unknown_fields(self, body: bytes, kind: type[msgspec.Struct]) -> None:
        """The body's unknown top-level fields; looked for only where the line is printed."""
        if logger.isEnabledFor(logging.DEBUG):
            unknown = decode_body(body, Object).keys() - {field.encode_name for field in msgspec.structs.fields(kind)}
            self._items.extend(map(_name_of, sorted(unknown)))

    def log(self, request_id: str) -> None:
        if self._items:
            rest = f" and {len(self._items) - 20} more" if len(self._items) > 20 else ""
            news = {_name_of(kind) for kind in self._kinds} - self._told
            room = _MAX_TOLD - len(self._told)
            self._told.update(sorted(news)[:room])
            level = logging.INFO if news and room else logging.DEBUG
            logger.log(level, "%s: ignored %s%s", request_id, ", ".join(self._items[:20]), rest)


def _name_of(kind: str) -> str:
    """A kind's or field's name for the log, where it is one: a client may have put words of a prompt there."""
    return repr(kind) if _NAME.fullmatch(kind) else "an unknown one"


def decode_body(body: bytes, kind: type[Kind]) -> Kind:
    """The body as a value of `kind`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(error, "") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.") from None
    except msgspec.DecodeError as error:
        mended = _without_lone_surrogates(body)
        if mended == body:
            raise InvalidRequest(f"The body is not JSON: {error}") from None
    return decode_body(mended, kind)


def convert(value: object, kind: type[Kind], path: str) -> Kind:
    """A parsed JSON value that stands at `path`, as a value of `kind`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _refusal(error, path) from None


def _refusal(error: msgspec.ValidationError, prefix: str) -> InvalidRequest:
    message = str(error)
    place = _PATH.search(message)
    param = prefix
    if place is not None:
        message = message[: place.start()]
        param += re.sub(r"\[([^\]]*)\]", r".\1", place[1])
    missing = _MISSING.search(message)
    if missing is not None:
        message, param = "Field required", f"{param}.{missing[1]}"
    return InvalidRequest(message, param.strip(".") or None)


def _without_lone_surrogates(body: bytes) -> bytes:
    """Escapes of half a character, which JavaScript clients send where they cut a text, made U+FFFD.

    Nothing here calls Python once for each escape: a body may hold 30 million, and the event loop waits.
    """
    if b"\0" in body:  # no JSON, whatever its escapes are
        return body
    marked = body.replace(rb"\\", b"\0")
    return _LONE.sub(rb"\\ufffd", marked).replace(b"\0", rb"\\")


def check_one_of(value: str | None, allowed: Sequence[str], path: str) -> None:
    if value is not None and value not in allowed:
        raise InvalidRequest(f"{value[:40]!r} is not one of {', '.join(allowed)}", path)


def check_arguments(text: str, path: str, size: JsonSize) -> None:
    """`check_depth` of a call's arguments as text, where they are JSON at all, and `size` of all calls'."""
    size.feed_whole(text.encode())
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        raise InvalidRequest(f"nested more than {MAX_DEPTH} deep", path) from None
    except msgspec.DecodeError:
        return
    check_depth({"": value} if isinstance(value, list) else value, path)


def check_depth(value: Object, path: str) -> None:
    """Raise for a value nested more than `MAX_DEPTH` deep."""
    level: list[Object | list[Any]] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise InvalidRequest(f"nested more than {MAX_DEPTH} deep", path)


def unique_tools(tools: list[ToolDefinition], path: str) -> tuple[ToolDefinition, ...]:
    """The tools, refused when two share a name or there are too many."""
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"{len(tools)} tools, at most {MAX_TOOLS} are allowed", path)
    seen: set[str] = set()
    for tool in tools:
        if tool.name in seen:
            raise InvalidRequest(f"two tools are named {tool.name!r}; names must be unique", path)
        seen.add(tool.name)
    return tuple(tools)


def require_tool(name: str, tools: tuple[ToolDefinition, ...], path: str) -> str:
    """The name a tool choice asks for, refused when no tool has it."""
    if all(tool.name != name for tool in tools):
        raise InvalidRequest(f"no tool named {name!r} among the tools of this request", path)
    return name


def decode_image(media_type: str, data: str, path: str) -> Image:
    """An image from its base64 text."""
    if not media_type.startswith("image/"):
        raise InvalidRequest(f"{media_type!r} is not an image type", path)
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("the image is not valid base64", path) from None
    if not decoded or (media_type in _COMMON_IMAGES and not decoded.startswith(IMAGE_BEGINNINGS)):
        raise InvalidRequest(f"the data is no {media_type}", path)
    return Image(media_type, decoded)


def decode_image_url(url: str, path: str) -> Image:
    """An image from a `data:` URL. Others are refused: the server fetches nothing."""
    header, comma, data = url.partition(",")
    if not (comma and header.startswith("data:") and header.endswith(";base64")):
        raise InvalidRequest("send the image as a data: URL in base64; this server fetches no URLs", path)
    return decode_image(header.removeprefix("data:").removesuffix(";base64").split(";")[0], data, path)
