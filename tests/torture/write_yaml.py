"""Random YAML files: block and flow, all five kinds of text, anchors, comments."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from .written import Path, Written, disguise, root

_BARE = re.compile(r"[a-z]{2,}[a-z0-9_-]*")
_WORDS = ("yes", "no", "on", "off", "true", "null")


def write(chance: random.Random, dialect: str = "yaml") -> Written:
    written = Written(dialect, model=root(chance, dialect))
    writer = _Writer(written, chance)
    if chance.random() < 0.15:
        written.put("---\n")
    writer.block(written.model, (), 0)
    writer.end_of_line()
    if chance.random() < 0.2:
        written.put(f"# {written.comment()}\n")
    return disguise(written, chance)


class _Writer:
    def __init__(self, written: Written, chance: random.Random) -> None:
        self.out, self.chance = written, chance
        self.offset = chance.choice((0, 2))
        self.anchors = 0

    def end_of_line(self) -> None:
        """End the line that stands open, with a comment or a blank line at random."""
        if self.out.text.endswith("\n") or not self.out.text:
            return
        if self.chance.random() < 0.2:
            self.out.put(f"  # {self.out.comment()}")
        self.out.put("\n")

    def lines_between(self, column: int) -> None:
        if self.chance.random() < 0.15:
            self.out.put(f"{' ' * column}# {self.out.comment()}\n")
        if self.chance.random() < 0.1:
            self.out.put("\n")

    def block(self, value: Any, path: Path, column: int, inline_first: bool = False) -> None:
        """A filled mapping or list whose lines begin in `column`; the first one may go on the line that is open."""
        step = self.chance.choice((2, 2, 4))
        for index, (key, item) in enumerate(value.items() if isinstance(value, dict) else enumerate(value)):
            if index or not inline_first:
                self.end_of_line()
                self.lines_between(column)
                self.out.put(" " * column)
            start = len(self.out.text)
            if isinstance(key, str):
                self.out.put(f"{self.key(key)}:")
                self.after_key(item, (*path, key), column, step)
            else:
                self.after_dash(item, (*path, key), column)
            self.out.entries[(*path, key)] = (start, len(self.out.text.rstrip("\n")))

    def after_key(self, item: Any, path: Path, column: int, step: int) -> None:
        if isinstance(item, dict | list) and item and self.chance.random() < 0.75:
            self.end_of_line()
            self.block(item, path, column + (step if isinstance(item, dict) else self.offset))
        elif item is None and self.chance.random() < 0.5:
            return
        else:
            self.out.put(" " * self.chance.choice((1, 1, 3)))
            self.leaf(item, column)

    def after_dash(self, item: Any, path: Path, column: int) -> None:
        self.out.put("-")
        if isinstance(item, dict | list) and item and self.chance.random() < 0.75:
            self.out.put(" ")
            self.block(item, path, column + 2, inline_first=True)
        elif item is not None or self.chance.random() < 0.5:
            self.out.put(" ")
            self.leaf(item, column)

    def leaf(self, item: Any, column: int) -> None:
        if isinstance(item, dict | list):
            self.out.put(self.flow(item))
        elif isinstance(item, str) and "\n" in item and self.chance.random() < 0.7:
            self.block_text(item, column)
        else:
            if self.chance.random() < 0.03:
                self.anchors += 1
                self.out.put(f"&anchor{self.anchors} ")
            self.out.put(self.scalar(item, bare=True))

    def block_text(self, item: str, column: int) -> None:
        self.out.put("|-\n" + "\n".join(f"{' ' * (column + 2)}{line}" for line in item.split("\n")) + "\n")

    def flow(self, item: Any) -> str:
        if isinstance(item, dict):
            return "{" + ", ".join(f"{self.key(key)}: {self.flow(inner)}" for key, inner in item.items()) + "}"
        if isinstance(item, list):
            return "[" + ", ".join(self.flow(inner) for inner in item) + "]"
        return self.scalar(item)

    def key(self, key: str) -> str:
        return key if _BARE.fullmatch(key) and key not in _WORDS else self.quoted(key)

    def scalar(self, item: Any, bare: bool = False) -> str:
        if isinstance(item, str):
            if bare and _BARE.fullmatch(item) and item not in _WORDS and self.chance.random() < 0.7:
                return item
            return self.quoted(item)
        if isinstance(item, float):
            return re.sub(r"^(-?\d+)e", r"\1.0e", repr(item))
        return self.chance.choice(("null", "~")) if item is None else json.dumps(item)

    def quoted(self, item: str) -> str:
        if item.isprintable() and self.chance.random() < 0.4:
            return "'" + item.replace("'", "''") + "'"
        token = json.dumps(item, ensure_ascii=False)
        return re.sub("[\x7f\u2028\ufeff]", lambda found: f"\\u{ord(found.group()):04x}", token)
