"""GLM 4.x: `<tool_call>NAME<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>`.

Up to 4.6 each tag stands on its own line, from 4.7 on there are no line breaks between them. A string's
value is everything between its tags, white space included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import hermes
from .base import Grammar, Reader, ToolFormat
from .json_calls import json_calls
from .keyed import KeyedSyntax, keyed_arguments
from .source import Reading, Source


@dataclass(frozen=True, slots=True)
class KeyValueTags:
    """The tags of a format of this kind; each has a closing tag with a slash."""

    call: str
    key: str
    value: str

    @property
    def open(self) -> str:
        return f"<{self.call}>"

    @property
    def close(self) -> str:
        return f"</{self.call}>"

    @property
    def key_open(self) -> str:
        return f"<{self.key}>"

    @property
    def value_open(self) -> str:
        return f"<{self.value}>"

    @property
    def ends(self) -> list[str]:
        return [f"</{self.key}>", f"</{self.value}>"]


def key_value_grammar(tags: KeyValueTags) -> Grammar:
    """The grammar of calls written with `tags`, or as JSON between the outer ones."""
    syntax = _syntax(tags)

    def grammar(reader: Reader) -> Reading[None]:
        while (yield from reader.prose.until([tags.open])):
            yield from _call(reader, tags, syntax)

    return grammar


def _call(reader: Reader, tags: KeyValueTags, syntax: KeyedSyntax) -> Reading[None]:
    source = reader.source
    yield from source.skip_space()
    if (yield from source.peek()) == "{":
        unread = yield from json_calls(reader, [tags.close])
        reader.prose.text(unread)
        return
    text, marker = yield from source.text_until([tags.key_open, tags.close, tags.open])
    name, _, rest = text.strip().partition("\n")
    if marker == tags.key_open and reader.is_name(name.strip()):
        reader.calls.begin(name.strip())
        source.unread(marker)
        yield from keyed_arguments(reader, name.strip(), syntax)
    else:
        _bare(reader, name.strip(), rest.strip())
        if marker == tags.open:
            source.unread(marker)


def _bare(reader: Reader, name: str, rest: str) -> None:
    """A call without tagged arguments: only a name, or a name with something that may be JSON."""
    if not rest and " " in name:
        name, _, rest = name.partition(" ")
    if name in reader.tools or (not rest and reader.is_name(name)):
        if rest and not rest.startswith("{"):
            reader.report("a call's arguments are neither tagged nor JSON")
        reader.calls.whole(name, rest)
    else:
        reader.report("an envelope holds no call")
        reader.prose.text(f"{name} {rest}".strip())


def _syntax(tags: KeyValueTags) -> KeyedSyntax:
    return KeyedSyntax(
        opens=[tags.key_open],
        key=_key_reader(tags),
        ends=[f"</{tags.value}>"],
        closes=[tags.close],
        untyped_is_string=False,
    )


def _key_reader(tags: KeyValueTags) -> Callable[[Source], Reading[tuple[str, bool | None]]]:
    def key(source: Source) -> Reading[tuple[str, bool | None]]:
        text, _ = yield from source.text_until([f"</{tags.key}>", tags.value_open, tags.close])
        yield from source.skip_space()
        yield from source.accept(tags.value_open)
        return text.strip(), None

    return key


TAGS = KeyValueTags("tool_call", "arg_key", "arg_value")

FORMAT = ToolFormat(
    name="glm",
    grammar=key_value_grammar(TAGS),
    is_written_by=lambda template: TAGS.key_open in template,
    openers=[hermes.OPEN, TAGS.key_open],
    markers=[TAGS.open, TAGS.close, TAGS.key_open, TAGS.value_open, *TAGS.ends],
)
