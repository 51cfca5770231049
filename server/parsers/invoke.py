"""Calls written as `<invoke name="NAME"><parameter name="KEY">value</parameter></invoke>`, under any prefix.

The two tags have other names in some formats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .base import Grammar, Reader
from .keyed import KeyedSyntax, keyed_arguments
from .source import Reading, Source

_NAME = re.compile(r"""(?:^|name)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_STRING = re.compile(r"""string\s*=\s*["']?(true|false)""")


@dataclass(frozen=True, slots=True)
class InvokeTags:
    """`prefixes` are the ways the tags' prefix is written, `envelopes` the names of the outer tag.

    `trims` takes one line break off each end of a value: there the format writes it on lines of its own.
    `invoke_open` is how far a call's tag must be written to be one, where that is more than its name;
    `short_invokes` are names that models close a call by without meaning to.
    `quotes` may stand around a value, beside its tags.
    """

    prefixes: Sequence[str]
    envelopes: Sequence[str]
    trims: bool = False
    invoke: str = "invoke"
    invoke_open: str = ""
    short_invokes: Sequence[str] = ()
    parameter: str = "parameter"
    quotes: tuple[str, str] = ("", "")
    untyped_is_string: bool = True

    def tags(self, form: str, names: Sequence[str]) -> list[str]:
        return [form.format(prefix=prefix, name=name) for prefix in self.prefixes for name in names]

    @property
    def envelope_opens(self) -> list[str]:
        return self.tags("<{prefix}{name}>", self.envelopes)

    @property
    def envelope_closes(self) -> list[str]:
        return self.tags("</{prefix}{name}>", self.envelopes)

    @property
    def invokes(self) -> list[str]:
        return self.tags("<{prefix}{name}", [self.invoke_open or self.invoke])

    @property
    def invoke_closes(self) -> list[str]:
        return self.tags("</{prefix}{name}>", [self.invoke, *self.short_invokes])

    @property
    def parameters(self) -> list[str]:
        return self.tags("<{prefix}{name}", [self.parameter])

    @property
    def parameter_closes(self) -> list[str]:
        return self.tags("</{prefix}{name}>", [self.parameter])

    @property
    def markers(self) -> list[str]:
        opens = [*self.envelope_opens, *self.invokes, *self.parameters]
        return [*opens, *self.envelope_closes, *self.invoke_closes, *self.parameter_closes]


def invoke_grammar(tags: InvokeTags, bare_invoke: bool) -> Grammar:
    """`bare_invoke`: a call may come without its envelope."""
    syntax = _syntax(tags)
    openers = [*tags.envelope_opens, *(tags.invokes if bare_invoke else ())]

    def grammar(reader: Reader) -> Reading[None]:
        while marker := (yield from reader.prose.until(openers)):
            while marker in (*tags.envelope_opens, *tags.invoke_closes, *tags.invokes):
                if marker in tags.invokes:
                    yield from _call(reader, syntax)
                marker = yield from _next_call(reader, tags)

    return grammar


def _next_call(reader: Reader, tags: InvokeTags) -> Reading[str]:
    """What comes after an envelope's beginning or after a call: another call, or the envelope's end."""
    ends = [*tags.envelope_closes, *tags.invoke_closes, *tags.envelope_opens]
    text, marker = yield from reader.source.text_until([*tags.invokes, *ends])
    if text.strip():
        reader.report("text between calls")
        reader.prose.text(text)
    return marker


def _call(reader: Reader, syntax: KeyedSyntax) -> Reading[None]:
    attributes, end = yield from reader.source.text_until([">", *syntax.closes])
    name = attribute(_NAME, attributes)
    if not reader.is_name(name):
        reader.report("a call has no name")
        return
    reader.calls.begin(name)
    if end == ">":
        marker = yield from keyed_arguments(reader, name, syntax)
    else:
        reader.calls.end()
        marker = end
    reader.source.unread(marker)


def attribute(pattern: re.Pattern[str], attributes: str) -> str:
    found = pattern.search(attributes)
    return next((value for value in found.groups() if value), "") if found else ""


def _syntax(tags: InvokeTags) -> KeyedSyntax:
    closes = tags.parameter_closes
    _, end_quote = tags.quotes
    if end_quote:
        closes = [end_quote + close for close in closes] + closes
    return KeyedSyntax(
        opens=tags.parameters,
        key=_key_reader(tags),
        ends=["\n" + close for close in closes] + closes if tags.trims else closes,
        closes=[*tags.invoke_closes, *tags.envelope_closes],
        next_calls=tags.invokes,
        untyped_is_string=tags.untyped_is_string,
    )


def _key_reader(tags: InvokeTags) -> Callable[[Source], Reading[tuple[str, bool | None]]]:
    def key(source: Source) -> Reading[tuple[str, bool | None]]:
        attributes, _ = yield from source.text_until([">"])
        yield from source.accept("\n" if tags.trims else tags.quotes[0])
        is_string = attribute(_STRING, attributes)
        return attribute(_NAME, attributes), {"true": True, "false": False}.get(is_string)

    return key
