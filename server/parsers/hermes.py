"""Hermes and Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, one envelope a call."""

from __future__ import annotations

from .base import Reader, ToolFormat
from .json_calls import json_call
from .source import Reading

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def grammar(reader: Reader) -> Reading[None]:
    while (yield from reader.prose.until([OPEN], [CLOSE])):
        yield from envelope(reader)


def envelope(reader: Reader) -> Reading[None]:
    """What stands between the marks: usually one call, sometimes several, or an array of them."""
    source = reader.source
    while True:
        source.record()
        yield from source.skip_space()
        yield from source.accept("[", ",", "]")
        yield from source.skip_space()
        is_call = (yield from source.peek()) == "{" and (yield from json_call(reader, [CLOSE, OPEN]))
        unread = source.recorded()
        if not is_call:
            break
    yield from _rest(reader, unread.strip(" \r\n\t[],"))


def _rest(reader: Reader, unread: str) -> Reading[None]:
    """What was no call comes back as text, up to the closing mark or to the next call."""
    source = reader.source
    rest, marker = yield from source.text_until([CLOSE, OPEN])
    text = unread + rest
    if text.strip(" \r\n\t[],}"):
        reader.report("an envelope holds no call")
        reader.prose.text(text)
    if marker == OPEN:
        yield from envelope(reader)


FORMAT = ToolFormat(
    name="hermes",
    grammar=grammar,
    is_written_by=lambda template: OPEN in template,
    openers=[OPEN],
    markers=[OPEN, CLOSE],
)
