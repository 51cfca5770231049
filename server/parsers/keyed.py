"""Arguments written one by one between tags, each with a key and a value that is not JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .base import Reader
from .calls import ObjectWriter
from .coercion import coerce, types_of
from .source import Reading, Source
from .value_text import value_text


@dataclass(frozen=True, slots=True)
class KeyedSyntax:
    """`opens` begin an argument, `ends` its value's end; `closes` end the call, and so does the next one's beginning
    between arguments: `next_calls`.

    `key` reads the rest of the opening tag: the key, and whether the value is a string where the format says
    so. Where neither format nor schema say, `untyped_is_string` decides. In `ends` the closing tag may stand
    with the white space that belongs to it.
    """

    opens: Sequence[str]
    key: Callable[[Source], Reading[tuple[str, bool | None]]]
    ends: Sequence[str]
    closes: Sequence[str]
    next_calls: Sequence[str] = ()
    untyped_is_string: bool = True


def keyed_arguments(reader: Reader, name: str, syntax: KeyedSyntax) -> Reading[str]:
    """Read the arguments of the call that was begun, streaming strings; the marker that closed it, "" at the end."""
    writer = ObjectWriter(reader.calls)
    while True:
        junk, marker = yield from reader.source.text_until([*syntax.opens, *syntax.closes, *syntax.next_calls])
        if junk.strip():
            reader.report("text between a call's arguments")
        if marker not in syntax.opens:
            writer.close()
            reader.calls.end()
            return marker
        key, is_string = yield from syntax.key(reader.source)
        types = types_of(reader.tools.get(name), key)
        writer.key(key)
        if is_string is None and (types == {"string"} or (not types and syntax.untyped_is_string)):
            yield from _string(reader, writer, syntax, may_be_null=True)
        elif is_string:
            yield from _string(reader, writer, syntax, may_be_null=False)
        else:
            pieces: list[str] = []
            yield from _value(reader, pieces.append, syntax)
            writer.value(coerce("".join(pieces), types))


def _string(reader: Reader, writer: ObjectWriter, syntax: KeyedSyntax, may_be_null: bool) -> Reading[None]:
    if may_be_null and (yield from reader.source.accept(*("null" + end for end in syntax.ends))):
        writer.value(None)
        return
    writer.quote()
    yield from _value(reader, writer.characters, syntax)
    writer.quote()


def _value(reader: Reader, emit: Callable[[str], None], syntax: KeyedSyntax) -> Reading[None]:
    if not (yield from value_text(reader.source, emit, syntax.ends, syntax.closes, syntax.opens)):
        reader.report("an argument has no end")
