"""Mistral: `[TOOL_CALLS]` before an array of JSON calls, or, since 2025, before NAME`[ARGS]`{…}.

There is no closing mark. `[CALL_ID]` may stand between name and arguments; the id is not kept.
"""

from __future__ import annotations

from .base import Reader, ToolFormat
from .json_calls import json_calls
from .json_text import json_value
from .source import Reading

OPEN, ARGUMENTS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_MARKS = [OPEN, ARGUMENTS, CALL_ID]


def grammar(reader: Reader) -> Reading[None]:
    while (yield from reader.prose.until([OPEN])):
        yield from reader.source.skip_space()
        if (yield from reader.source.peek()) in ("[", "{") and not (yield from _at_mark(reader)):
            unread = yield from json_calls(reader, [OPEN])
            reader.prose.text(unread)
        else:
            yield from _named_calls(reader)


def _at_mark(reader: Reader) -> Reading[bool]:
    mark = yield from reader.source.accept(*_MARKS)
    reader.source.unread(mark)
    return bool(mark)


def _named_calls(reader: Reader) -> Reading[None]:
    """Calls one after another, as long as a name is followed by its arguments' mark."""
    source = reader.source
    while True:
        name, marker = yield from source.text_until([*_MARKS, "{"])
        while marker == CALL_ID:
            _, marker = yield from source.text_until([*_MARKS, "{"])
        name = name.strip()
        is_call = reader.is_name(name) and (marker == ARGUMENTS or (marker == "{" and name in reader.tools))
        if not is_call:
            if name:
                reader.report("a call has no arguments")
            reader.prose.text(name)
            source.unread(marker if marker in (OPEN, "{") else "")
            return
        source.unread(marker.removeprefix(ARGUMENTS))
        yield from _arguments(reader, name)
        yield from source.skip_space()
        if (yield from source.accept(OPEN)):
            continue


def _arguments(reader: Reader, name: str) -> Reading[None]:
    source = reader.source
    reader.calls.begin(name)
    yield from source.skip_space()
    if (yield from source.peek()) == "{":
        if not (yield from json_value(source, reader.calls.write, [OPEN])):
            reader.report("a call's JSON is cut short")
    else:
        text, marker = yield from source.text_until([OPEN])
        reader.report("a call's arguments are not JSON")
        reader.calls.write(text.strip())
        source.unread(marker)
    reader.calls.end()


FORMAT = ToolFormat(
    name="mistral",
    grammar=grammar,
    is_written_by=lambda template: OPEN in template,
    openers=[OPEN],
    markers=_MARKS,
)
