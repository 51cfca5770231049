"""Hermes and Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, one envelope a call."""

from __future__ import annotations

from .base import Reader, ToolFormat
from .json_calls import json_calls
from .source import Reading

_LEFT_OVER = " \r\n\t[],}"
OPEN, CLOSE = "<tool_call>", "</tool_call>"
RESULTS = ("<tool_response>", "</tool_response>")
"""Around what a tool gave back, in the prompt: a model that writes them plays the tool too."""


def grammar(reader: Reader) -> Reading[None]:
    while (yield from reader.prose.until([OPEN])):
        yield from envelope(reader)


def envelope(reader: Reader) -> Reading[None]:
    """What stands between the marks; what is no call comes back as text."""
    unread = yield from json_calls(reader, [CLOSE, OPEN])
    rest, marker = yield from reader.source.text_until([CLOSE, OPEN])
    text = unread + rest
    if text.strip(_LEFT_OVER):
        reader.report("an envelope holds no call")
        reader.prose.text(text)
    if marker == OPEN:
        reader.source.unread(marker)


FORMAT = ToolFormat(
    name="hermes",
    grammar=grammar,
    is_written_by=lambda template: OPEN in template,
    openers=[OPEN],
    markers=[OPEN, CLOSE, *RESULTS],
)
