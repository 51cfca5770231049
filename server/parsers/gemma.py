"""Gemma's calls: `call:NAME{key:value,…}` between marks, with bare keys and a mark for quotes.

Gemma 4 quotes with `<|"|>`, FunctionGemma with `<escape>`; nothing inside quotes is escaped.
"""

from __future__ import annotations

from .base import Grammar, Reader, ToolFormat
from .calls import ObjectWriter
from .literals import LiteralSyntax, at_end, bare, literal
from .source import Reading


def call_grammar(opens: str, close: str, quote: str) -> Grammar:
    syntax = LiteralSyntax(quotes=[quote], has_escapes=False, closes=[close], opens=[opens])

    def grammar(reader: Reader) -> Reading[None]:
        while (yield from reader.prose.until([opens])):
            yield from _calls(reader, syntax)

    return grammar


def _calls(reader: Reader, syntax: LiteralSyntax) -> Reading[None]:
    source = reader.source
    while True:
        yield from source.skip_space()
        if not (yield from source.accept("call:")):
            break
        name = yield from source.word()
        yield from source.skip_space()
        if not reader.is_name(name) or not (yield from source.accept("{")):
            reader.report("a call has no arguments")
            reader.prose.text(name)
            break
        reader.calls.begin(name)
        if not (yield from _arguments(reader, syntax)):
            reader.report("a call's arguments are cut short")
        reader.calls.end()
    text, marker = yield from source.text_until([*syntax.closes, *syntax.opens])
    if text.strip(" \r\n\t}"):
        reader.report("an envelope holds more than calls")
        reader.prose.text(text)
    if marker in syntax.opens:
        source.unread(marker)


def _arguments(reader: Reader, syntax: LiteralSyntax) -> Reading[bool]:
    source = reader.source
    writer = ObjectWriter(reader.calls)
    is_whole = True
    while is_whole:
        yield from source.skip_space()
        if (yield from source.accept("}")):
            break
        if (yield from source.accept(",")):
            continue
        if (yield from at_end(source, syntax)):
            is_whole = False
            break
        key = yield from _key(reader, syntax)
        yield from source.accept(":")
        writer.key(key)
        is_whole = yield from literal(source, writer, syntax)
    writer.close()
    return is_whole


def _key(reader: Reader, syntax: LiteralSyntax) -> Reading[str]:
    text = yield from bare(reader.source, ":,}", syntax)
    for quote in syntax.quotes:
        text = text.replace(quote, "")
    return text.strip()


_GEMMA4 = ("<|tool_call>", "<tool_call|>", '<|"|>')
_FUNCTION_GEMMA = ("<start_function_call>", "<end_function_call>", "<escape>")

FORMAT = ToolFormat(
    name="gemma4",
    grammar=call_grammar(*_GEMMA4),
    is_written_by=lambda template: _GEMMA4[0] in template and _GEMMA4[1] in template,
    openers=_GEMMA4[:1],
    markers=[*_GEMMA4, "<|tool_response>", "<tool_response|>"],
)

FUNCTION_GEMMA = ToolFormat(
    name="function_gemma",
    grammar=call_grammar(*_FUNCTION_GEMMA),
    is_written_by=lambda template: _FUNCTION_GEMMA[0] in template,
    openers=_FUNCTION_GEMMA[:1],
    markers=[*_FUNCTION_GEMMA, "<start_function_response>"],
)
