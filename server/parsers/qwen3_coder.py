"""Qwen3-Coder's tags: `<tool_call><function=NAME><parameter=KEY>value</parameter></function></tool_call>`.

The value stands on lines of its own: one line break after the opening tag and one before the closing tag
are the format's. The envelope is often forgotten. Seed-OSS writes the same in an envelope of its own.
"""

from __future__ import annotations

from . import hermes
from .base import Reader, ToolFormat
from .keyed import KeyedSyntax, keyed_arguments
from .source import Reading, Source

OPENS = ("<tool_call>", "<seed:tool_call>")
CLOSES = ("</tool_call>", "</seed:tool_call>")
FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"


def grammar(reader: Reader) -> Reading[None]:
    while marker := (yield from reader.prose.until([*OPENS, FUNCTION])):
        if marker == FUNCTION:
            yield from _function(reader)
        else:
            yield from _envelope(reader)


def _envelope(reader: Reader) -> Reading[None]:
    source = reader.source
    yield from source.skip_space()
    if (yield from source.peek()) == "{":
        reader.report("the call is JSON, as in format hermes")
        yield from hermes.envelope(reader)
        return
    text, marker = yield from source.text_until([FUNCTION, *CLOSES])
    if text.strip():
        reader.report("an envelope holds no call")
        reader.prose.text(text)
    if marker == FUNCTION:
        yield from _function(reader)


def _function(reader: Reader) -> Reading[None]:
    name, end = yield from reader.source.text_until([">", *CLOSES, FUNCTION_END])
    name = name.strip().strip("\"'")
    if end != ">" or not reader.is_name(name):
        reader.report("a function has no name")
        reader.prose.text(name)
        return
    reader.calls.begin(name)
    yield from keyed_arguments(reader, name, SYNTAX)


def _key(source: Source) -> Reading[tuple[str, bool | None]]:
    key, _ = yield from source.text_until([">"])
    yield from source.accept("\n")
    return key.strip().strip("\"'"), None


SYNTAX = KeyedSyntax(
    opens=[PARAMETER],
    key=_key,
    ends=["\n" + PARAMETER_END, PARAMETER_END],
    closes=[FUNCTION_END, *CLOSES],
)

FORMAT = ToolFormat(
    name="qwen3_coder",
    grammar=grammar,
    is_written_by=lambda template: FUNCTION in template and PARAMETER in template,
    openers=[*OPENS, FUNCTION],
    markers=[*OPENS, *CLOSES, *hermes.RESULTS, FUNCTION, FUNCTION_END, PARAMETER, PARAMETER_END],
)
