"""Calls as Python writes them: `[name(key="value"), other()]`, from Llama 3.2 and 4 and from LFM2.

LFM2 and some of the Llamas put marks around the list. Without them only a list that opens the answer, and
with it a call of a tool of the request, is read as calls.
"""

from __future__ import annotations

from .base import Reader, ToolFormat
from .calls import ObjectWriter
from .literals import LiteralSyntax, at_end, literal
from .source import Reading

OPENS = ("<|tool_call_start|>", "<|python_start|>", "<|python_tag|>")
CLOSES = ("<|tool_call_end|>", "<|python_end|>")
_SYNTAX = LiteralSyntax(quotes=['"', "'"], has_escapes=True, closes=CLOSES, opens=OPENS)


def grammar(reader: Reader) -> Reading[None]:
    yield from _bare_list(reader)
    while (yield from reader.prose.until(OPENS)):
        yield from _marked_list(reader)


def _bare_list(reader: Reader) -> Reading[None]:
    source = reader.source
    source.record()
    yield from source.skip_space()
    name = ""
    if (yield from source.accept("[")):
        name = yield from source.word("_.")
    is_call = name in reader.tools and bool((yield from source.accept("(")))
    read = source.recorded()
    if is_call:
        yield from _calls(reader, name)
    else:
        source.unread(read)


def _marked_list(reader: Reader) -> Reading[None]:
    source = reader.source
    yield from source.skip_space()
    yield from source.accept("[")
    name = yield from source.word("_.")
    if name and (yield from source.accept("(")):
        yield from _calls(reader, name)
        return
    text, _ = yield from source.text_until(CLOSES)
    reader.report("an envelope holds no call")
    reader.prose.text(name + text)


def _calls(reader: Reader, name: str) -> Reading[None]:
    """The calls of a list from the first one's bracket on, and the list's end."""
    source = reader.source
    while True:
        reader.calls.begin(name)
        is_whole = yield from _arguments(reader)
        reader.calls.end()
        if not is_whole:
            reader.report("a call's arguments are not written as in Python")
            return
        yield from source.skip_space()
        if not (yield from source.accept(",")):
            break
        yield from source.skip_space()
        name = yield from source.word("_.")
        if not name or not (yield from source.accept("(")):
            reader.prose.text(name)
            break
    yield from source.skip_space()
    yield from source.accept("]")


def _arguments(reader: Reader) -> Reading[bool]:
    source = reader.source
    writer = ObjectWriter(reader.calls)
    is_whole = True
    while is_whole:
        yield from source.skip_space()
        if (yield from source.accept(")")):
            break
        if (yield from source.accept(",")):
            continue
        key = yield from source.word("_")
        yield from source.skip_space()
        if not key or not (yield from source.accept("=")) or (yield from at_end(source, _SYNTAX)):
            is_whole = False
            break
        writer.key(key)
        is_whole = yield from literal(source, writer, _SYNTAX)
    writer.close()
    return is_whole


FORMAT = ToolFormat(
    name="pythonic",
    grammar=grammar,
    is_written_by=lambda template: any(mark in template for mark in (*OPENS[:2], "<|tool_list_start|>")),
    openers=OPENS,
    markers=[*OPENS, *CLOSES],
)
