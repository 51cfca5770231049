"""Reads one YAML document strictly and keeps the place of every node, key, dash and comma."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import yaml
from yaml.error import MarkedYAMLError

from .limits import MAX_DEPTH, check_size, document_error
from .model import Value
from .spans import Entry, Node

# PyYAML marks count characters without the BOM that it skips, so the BOM is taken off before and added back after.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class YamlText:
    """What a text (without BOM) holds. `root` is None for an empty document, which counts as an empty mapping."""

    value: Value
    root: Node | None


def read(text: str) -> YamlText:
    """Raises DocumentError with the line: not YAML, a key twice, tabs as indentation, several documents, too deep."""
    check_size(text)
    try:
        root = _Tree(text).document()
        value = yaml.load(text, _LOADER)
    except yaml.reader.ReaderError as error:
        raise document_error(f"a character that YAML does not allow ({error.reason})", text, error.position) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        began = error.context_mark
        context = f"{error.context} from line {began.line + 1}:" if error.context and began else error.context
        fact = " ".join(part for part in (context, error.problem) if part)
        raise document_error(fact, text, mark.index if mark else 0) from error
    except ValueError as error:  # such as a date with month 13, which PyYAML reads as a date
        raise document_error(f"a value that cannot be read ({error})", text, 0) from error
    if value is None and (root is None or root.start == root.end):
        return YamlText({}, None)
    return YamlText(value, root)


def read_pyyaml(text: str) -> Value:
    """The value as PyYAML (YAML 1.1: bare `yes` is a boolean) reads it."""
    value = yaml.load(text.removeprefix("\ufeff"), _LOADER)
    return {} if value is None else value


class _Parser(yaml.SafeLoader):
    """PyYAML's own parser, which also keeps the places of commas and dashes: its events do not tell them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.commas: list[int] = []
        self.dashes: list[tuple[int, int]] = []

    def get_token(self) -> Any:
        token = super().get_token()
        if isinstance(token, yaml.FlowEntryToken):
            self.commas.append(token.start_mark.index)
        elif isinstance(token, yaml.BlockEntryToken):
            self.dashes.append((token.start_mark.index, token.start_mark.column))
        return token


class _Tree:
    """Builds Nodes from PyYAML's events; the recursion is as deep as the text, which is bounded first."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.events: Iterator[Any] = iter(())
        self.commas: list[int] = []
        self.dashes: list[tuple[int, int]] = []
        self.resolver = yaml.SafeLoader("")

    def fail(self, fact: str, position: int) -> NoReturn:
        raise document_error(fact, self.text, position)

    def document(self) -> Node | None:
        depth = 0
        events: list[Any] = []
        documents = 0
        parser = _Parser(self.text)
        while parser.check_event():
            event: Any = parser.get_event()
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                self.fail(f"nested more than {MAX_DEPTH} deep", event.start_mark.index)
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                self.fail("a second document begins here; only files with one are edited", event.start_mark.index)
            events.append(event)
        self.commas, self.dashes = parser.commas, parser.dashes
        if not documents:
            return None
        self.events = iter(events[2:])
        return self.node(next(self.events))

    def node(self, event: Any) -> Node:
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(event, start)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(event, start)
        if isinstance(event, yaml.ScalarEvent) and event.style in ("|", ">"):
            return Node(start, start + len(self.text[start:end].rstrip()), "scalar", block=True)
        return Node(start, end, "scalar")

    def mapping(self, opening: Any, start: int) -> Node:
        entries: list[Entry] = []
        seen: set[tuple[Any, str]] = set()
        event = next(self.events)
        while not isinstance(event, yaml.MappingEndEvent):
            begin = event.start_mark.index
            name = event.value if isinstance(event, yaml.ScalarEvent) else ""
            if isinstance(event, yaml.ScalarEvent):
                tag = event.tag or self.resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
                if (tag, name) in seen:
                    self.fail(f"the key {name!r} stands here a second time", begin)
                seen.add((tag, name))
            self.node(event)
            entries.append(Entry(name, begin, self.node(next(self.events))))
            event = next(self.events)
        return self.collection(opening, event, "mapping", start, entries)

    def sequence(self, opening: Any, start: int) -> Node:
        entries: list[Entry] = []
        event = next(self.events)
        while not isinstance(event, yaml.SequenceEndEvent):
            entries.append(Entry(len(entries), event.start_mark.index, self.node(event)))
            event = next(self.events)
        if not opening.flow_style:
            entries = self.with_dashes(entries, start)
        return self.collection(opening, event, "list", start, entries)

    def with_dashes(self, entries: list[Entry], start: int) -> list[Entry]:
        """A block sequence's entries begin at their dashes, all in the column of the first one."""
        dashes = self.dashes[bisect_left(self.dashes, (start, 0)) :]
        column = dashes[0][1]
        own = [index for index, at in dashes if at == column]
        return [replace(entry, start=dash) for entry, dash in zip(entries, own, strict=False)]

    def collection(self, opening: Any, closing: Any, kind: str, start: int, entries: list[Entry]) -> Node:
        if not opening.flow_style:
            return Node(start, entries[-1].end if entries else start, kind, tuple(entries), block=True)
        with_commas = []
        for index, entry in enumerate(entries):
            stop = entries[index + 1].start if index + 1 < len(entries) else closing.start_mark.index
            at = bisect_left(self.commas, entry.end)
            comma = self.commas[at] if at < len(self.commas) and self.commas[at] < stop else None
            with_commas.append(replace(entry, comma=comma))
        return Node(start, closing.end_mark.index, kind, tuple(with_commas))
