"""A tool call written as a JSON object: its name and its arguments, under any of the keys in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .base import Reader
from .json_text import json_string, json_value
from .source import Reading

_NAME_KEYS = ("name", "tool_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
_MAX_DEPTH = 2
_OTHER_KEYS = ("id", "type")
_PUNCTUATION = " \r\n\t[]"
_WRAPPERS = ("function", "tool", "tool_call")


@dataclass(slots=True)
class _Call:
    """What is known so far: arguments that come before the name wait for it."""

    only_known: bool
    depth: int = 0
    has_begun: bool = False
    waiting: list[str] = field(default_factory=list)
    is_whole: bool = True


def json_calls(reader: Reader, ends: Sequence[str], separators: str = ",") -> Reading[str]:
    """Read the calls that come next: one, several, or an array of them. What was read and is no call."""
    source = reader.source
    while True:
        source.record()
        yield from source.skip_space()
        yield from source.accept("[", "]", *separators)
        yield from source.skip_space()
        is_call = (yield from source.peek()) == "{" and (yield from json_call(reader, ends))
        unread = source.recorded()
        if not is_call:
            return unread.strip(_PUNCTUATION + separators)


def json_call(reader: Reader, ends: Sequence[str], only_known: bool = False) -> Reading[bool]:
    """Read one call, `{` comes next. Whether a call was begun; if not, what was read is no call.

    The arguments stream as they are written once the name is known. Reads to the object's last brace where
    there is one, and never over one of `ends` outside of a string. With `only_known` an object that names no
    tool of the request, or has a member that no call has, is none.
    """
    call = _Call(only_known)
    yield from _members(reader, ends, call)
    if not call.has_begun:
        return False
    for piece in call.waiting:
        reader.calls.write(piece)
    if not call.is_whole:
        reader.report("a call's JSON is cut short")
    reader.calls.end()
    return True


def _members(reader: Reader, ends: Sequence[str], call: _Call) -> Reading[bool]:
    """Read an object's members; whether it came to its closing brace."""
    source = reader.source
    yield from source.accept("{")
    while True:
        yield from source.skip_space()
        if (yield from source.accept("}")):
            return True
        if (yield from source.accept(",")):
            continue
        key = yield from json_string(source, ends)
        yield from source.skip_space()
        if key is None or not (yield from source.accept(":")):
            call.is_whole = False
            return False
        yield from source.skip_space()
        if not (yield from _member(reader, ends, call, key)):
            call.is_whole = False
            return False


def _member(reader: Reader, ends: Sequence[str], call: _Call, key: str) -> Reading[bool]:
    source = reader.source
    first = yield from source.peek()
    if key in _WRAPPERS and first == "{" and call.depth < _MAX_DEPTH:
        call.depth += 1
        return (yield from _members(reader, ends, call))
    if key in (*_NAME_KEYS, *_WRAPPERS) and first == '"' and not call.has_begun:
        name = yield from json_string(source, ends)
        if not name or not reader.is_name(name) or (call.only_known and name not in reader.tools):
            return False
        call.has_begun = True
        reader.calls.begin(name)
        return True
    if key in _ARGUMENT_KEYS:
        return (yield from _arguments(reader, ends, call, first))
    if call.only_known and key not in _OTHER_KEYS:
        return False
    return (yield from json_value(source, lambda _: None, ends))


def _arguments(reader: Reader, ends: Sequence[str], call: _Call, first: str) -> Reading[bool]:
    """Arguments as an object, or as a string that holds one."""
    if first == '"':
        text = yield from json_string(reader.source, ends)
        if text is not None:
            call.waiting.append(text)
        return text is not None
    if first == "n":
        return (yield from json_value(reader.source, lambda _: None, ends))
    emit = reader.calls.write if call.has_begun else call.waiting.append
    return (yield from json_value(reader.source, emit, ends))
