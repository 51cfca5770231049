"""Random JSON, JSONC and JSON5 files."""

from __future__ import annotations

import json
import random
from typing import Any

from .written import Path, Written, disguise, root


def write(chance: random.Random, dialect: str) -> Written:
    written = Written(dialect, model=root(chance, dialect))
    _Writer(written, chance).document()
    return disguise(written, chance)


class _Writer:
    def __init__(self, written: Written, chance: random.Random) -> None:
        self.out, self.chance = written, chance
        self.unit = chance.choice(("  ", "    ", "\t"))
        self.compact = chance.random() < 0.15
        self.json5 = written.dialect == "json5"
        self.notes = written.dialect != "json" and not self.compact

    def document(self) -> None:
        if self.notes and self.chance.random() < 0.5:
            self.out.put(f"// {self.out.comment()}\n")
        self.value(self.out.model, (), "")
        self.out.put("\n")
        if self.notes and self.chance.random() < 0.3:
            self.out.put(f"/* {self.out.comment()}\n */\n")

    def value(self, value: Any, path: Path, indent: str) -> None:
        if isinstance(value, dict | list) and value:
            self.collection(value, path, indent)
        elif isinstance(value, dict | list):
            opening, closing = "{}" if isinstance(value, dict) else "[]"
            inner = self.chance.choice(("", " ", f" /* {self.out.comment()} */ ")) if self.notes else ""
            self.out.put(opening + inner + closing)
        else:
            self.out.put(self.scalar(value))

    def collection(self, value: Any, path: Path, indent: str) -> None:
        wide = not self.compact and (not path or self.chance.random() < 0.7)
        inner = indent + self.unit
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        self.out.put("{" if isinstance(value, dict) else "[")
        for index, (key, item) in enumerate(items):
            self.lead(wide, inner, first=index == 0)
            start = len(self.out.text)
            if isinstance(key, str):
                self.out.put(self.key(key) + (":" if self.compact else self.chance.choice((": ", ":", " : "))))
            self.value(item, (*path, key), inner if wide else indent)
            self.out.entries[(*path, key)] = (start, len(self.out.text))
            self.tail(wide, last=index == len(items) - 1)
        if wide:
            self.out.put(f"\n{indent}")
        self.out.put("}" if isinstance(value, dict) else "]")

    def lead(self, wide: bool, indent: str, first: bool) -> None:
        if wide and self.notes and self.chance.random() < 0.15:
            self.out.put(f"\n{indent}// {self.out.comment()}")
        if wide and not first and self.chance.random() < 0.1:
            self.out.put("\n")
        if wide:
            self.out.put(f"\n{indent}")
        elif not self.compact and (not first or self.chance.random() < 0.3):
            self.out.put(" ")

    def tail(self, wide: bool, last: bool) -> None:
        if self.notes and self.chance.random() < 0.1:
            self.out.put(f" /* {self.out.comment()} */")
        if not last or (self.out.dialect != "json" and self.chance.random() < 0.3):
            self.out.put(",")
        if wide and self.notes and self.chance.random() < 0.25:
            self.out.put(f" // {self.out.comment()}")

    def key(self, key: str) -> str:
        if self.json5 and key.isalpha() and self.chance.random() < 0.7:
            return key
        return self.text(key)

    def scalar(self, value: Any) -> str:
        if isinstance(value, str):
            return self.text(value)
        if self.json5 and isinstance(value, int) and not isinstance(value, bool) and self.chance.random() < 0.3:
            return self.chance.choice((hex(value), f"+{value}" if value >= 0 else str(value)))
        return json.dumps(value)

    def text(self, value: str) -> str:
        token = json.dumps(value, ensure_ascii=self.chance.random() < 0.3)
        if self.json5 and self.chance.random() < 0.4:
            return "'" + token[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
        if not self.json5:
            return token
        return token.replace("\\n", "\\n\\\n") if self.chance.random() < 0.3 else token
