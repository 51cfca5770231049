"""Random TOML files: tables, dotted keys, inline tables, lists of tables, all four kinds of text, comments."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from .written import Path, Written, disguise, root

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write(chance: random.Random, dialect: str = "toml") -> Written:
    written = Written(dialect, model=root(chance, dialect))
    writer = _Writer(written, chance)
    writer.table(written.model, (), ())
    return disguise(written, chance)


class _Writer:
    def __init__(self, written: Written, chance: random.Random) -> None:
        self.out, self.chance = written, chance

    def table(self, value: dict[str, Any], path: Path, keys: tuple[str, ...]) -> None:
        """The pairs of a table, then the tables inside it."""
        tables: list[tuple[str, Any]] = []
        for key, item in value.items():
            is_table = isinstance(item, dict) and self.chance.random() < 0.6
            is_list = isinstance(item, list) and item and all(isinstance(i, dict) for i in item)
            if is_table or (is_list and self.chance.random() < 0.6):
                tables.append((key, item))
            elif isinstance(item, dict) and item and self.chance.random() < 0.4:
                self.dotted(item, (*path, key), key)
            else:
                self.pair(self.key(key), item, (*path, key))
        for key, item in tables:
            for index, part in enumerate([item] if isinstance(item, dict) else item):
                place = (*path, key) if isinstance(item, dict) else (*path, key, index)
                self.header((*keys, key), double=isinstance(item, list))
                self.table(part, place, (*keys, key))

    def header(self, keys: tuple[str, ...], double: bool) -> None:
        if self.chance.random() < 0.7:
            self.out.put("\n")
        if self.chance.random() < 0.3:
            self.out.put(f"# {self.out.comment()}\n")
        name = ".".join(self.key(key) for key in keys)
        self.out.put(f"[[{name}]]" if double else f"[{name}]")
        self.end_of_line()

    def dotted(self, value: dict[str, Any], path: Path, name: str) -> None:
        for key, item in value.items():
            self.pair(f"{self.key(name)}.{self.key(key)}", item, (*path, key))

    def pair(self, name: str, item: Any, path: Path) -> None:
        if self.chance.random() < 0.15:
            self.out.put(f"# {self.out.comment()}\n")
        start = len(self.out.text)
        self.out.put(name + self.chance.choice((" = ", " = ", "=")))
        self.out.put(self.value(item, wide=self.chance.random() < 0.4))
        self.out.entries[path] = (start, len(self.out.text))
        self.end_of_line()

    def end_of_line(self) -> None:
        self.out.put(f" # {self.out.comment()}\n" if self.chance.random() < 0.2 else "\n")

    def value(self, item: Any, wide: bool = False) -> str:
        if isinstance(item, dict):
            return "{" + ", ".join(f"{self.key(key)} = {self.value(inner)}" for key, inner in item.items()) + "}"
        if isinstance(item, list):
            parts = [self.value(inner) for inner in item]
            if not wide or not item:
                return f"[{', '.join(parts)}]"
            note = f" # {self.out.comment()}" if self.chance.random() < 0.3 else ""
            return "[\n  " + ",\n  ".join(parts) + self.chance.choice(("", ",")) + note + "\n]"
        if isinstance(item, float):
            return repr(item)
        return self.text(item) if isinstance(item, str) else json.dumps(item)

    def key(self, key: str) -> str:
        return key if _BARE.fullmatch(key) and self.chance.random() < 0.8 else self.text(key, short=True)

    def text(self, item: str, short: bool = False) -> str:
        if item.isprintable() and "'" not in item and self.chance.random() < 0.3:
            return f"'{item}'"
        if "\n" in item and not short and item.replace("\n", "").isprintable() and self.chance.random() < 0.6:
            return f"'''\n{item}'''"
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")
