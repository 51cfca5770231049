"""DeepSeek V3 and V3.1, before DSML.

V3.1 writes NAME, a separator and the arguments; V3 writes the word `function`, the separator, NAME, and the
arguments in a fenced block of JSON.
"""

from __future__ import annotations

from .base import Reader, ToolFormat
from .json_text import json_value
from .source import Reading

_BAR, _SPACE = "\uff5c", "\u2581"


def _token(words: str) -> str:
    return f"<{_BAR}{words.replace(' ', _SPACE)}{_BAR}>"


SECTION, SECTION_END = _token("tool calls begin"), _token("tool calls end")
CALL, SEPARATOR, CALL_END = _token("tool call begin"), _token("tool sep"), _token("tool call end")

_ALL = [SECTION, SECTION_END, CALL, SEPARATOR, CALL_END]


def grammar(reader: Reader) -> Reading[None]:
    while marker := (yield from reader.prose.until([SECTION, CALL])):
        while marker in (SECTION, CALL):
            if marker == CALL:
                yield from _call(reader)
            text, marker = yield from reader.source.text_until(_ALL)
            if marker in (CALL_END, SEPARATOR):
                marker = SECTION
            if text.strip(" \r\n\t`"):
                reader.report("text between calls")
                reader.prose.text(text)


def _call(reader: Reader) -> Reading[None]:
    source = reader.source
    ends = [CALL_END, SECTION_END, CALL]
    name, marker = yield from source.text_until([SEPARATOR, *ends])
    if marker == SEPARATOR and name.strip() == "function":
        name, marker = yield from source.text_until(["\n", "```", "{", *ends])
        source.unread(marker.lstrip("\n"))
        marker = SEPARATOR if marker not in ends else marker
    if marker != SEPARATOR or not reader.is_name(name.strip()):
        reader.report("a call has no arguments")
        reader.prose.text(name)
        return
    reader.calls.begin(name.strip())
    yield from _arguments(reader, ends)
    reader.calls.end()


def _arguments(reader: Reader, ends: list[str]) -> Reading[None]:
    source = reader.source
    yield from source.skip_space()
    yield from source.accept("```json", "```")
    yield from source.skip_space()
    if (yield from source.peek()) == "{":
        if not (yield from json_value(source, reader.calls.write, ends)):
            reader.report("a call's JSON is cut short")
        return
    text, marker = yield from source.text_until(ends)
    reader.calls.write(text.strip(" \r\n\t`"))
    source.unread(marker)


FORMAT = ToolFormat(
    name="deepseek_v3",
    grammar=grammar,
    is_written_by=lambda template: SECTION in template,
    openers=[SECTION, CALL],
    markers=_ALL,
)
