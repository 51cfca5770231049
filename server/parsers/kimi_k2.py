"""Kimi K2: `<|tool_call_begin|>functions.NAME:NUMBER<|tool_call_argument_begin|>{…}<|tool_call_end|>` in a section."""

from __future__ import annotations

import re

from .base import Reader, ToolFormat
from .json_text import json_value
from .source import Reading

SECTION, SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGUMENTS, CALL_END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
_ALL = [SECTION, SECTION_END, CALL, ARGUMENTS, CALL_END]
_NUMBER = re.compile(r":\d+$")


def grammar(reader: Reader) -> Reading[None]:
    while marker := (yield from reader.prose.until([SECTION, CALL])):
        while marker in (SECTION, CALL):
            if marker == CALL:
                yield from _call(reader)
            text, marker = yield from reader.source.text_until(_ALL)
            if marker in (CALL_END, ARGUMENTS):
                marker = SECTION
            if text.strip():
                reader.report("text between calls")
                reader.prose.text(text)


def _call(reader: Reader) -> Reading[None]:
    source = reader.source
    call_id, marker = yield from source.text_until([ARGUMENTS, CALL_END, CALL, SECTION_END])
    name = _NUMBER.sub("", call_id.strip()).removeprefix("functions.")
    if marker != ARGUMENTS or not reader.is_name(name):
        reader.report("a call has no arguments")
        reader.prose.text(call_id)
        source.unread(marker)
        return
    reader.calls.begin(name)
    yield from source.skip_space()
    if (yield from source.peek()) == "{":
        if not (yield from json_value(source, reader.calls.write, [CALL_END, SECTION_END, CALL])):
            reader.report("a call's JSON is cut short")
    else:
        text, marker = yield from source.text_until([CALL_END, SECTION_END, CALL])
        reader.calls.write(text.strip())
        source.unread(marker)
    reader.calls.end()


FORMAT = ToolFormat(
    name="kimi_k2",
    grammar=grammar,
    is_written_by=lambda template: SECTION in template,
    openers=[SECTION, CALL],
    markers=_ALL,
)
