"""Random settings files whose meaning, and the place of every value in them, are known because they were made here.

No parser takes part: a `Written` file carries its model, the place of each value, and a unique word in each comment.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str | int, ...]

TEXTS = (
    "gpt", "http://127.0.0.1:8000/v1", "yes", "No", "on", "off", "~", "null", "true", "", " ", "1", "0x1F", "1e5",
    "1_000", "2020-01-01", "12:30", "é", "日本", "😀", "a: b", "# none", "// none", "/* x */", "it's", 'say "hi"',
    "back\\slash", "tab\there", "two\nlines", "line\u2028sep", "- item", "{x}", "[y]", "*star", "&and", "!tag",
    "%p", "@at", "`tick`", "a,b", "trailing ", "${VAR}", "{env:KEY}", "=", "?", ":", "-", "<<", ".inf", "NaN",
    "\x7f", "\ufeffbom",
)  # fmt: skip
NAMES = (
    "a", "model", "base_url", "api-key", "providers", "omlx", "x1", "Über", "with space", "dot.ted", "yes", "no",
    "1", "", "name", "limit", "models", "url", "q'", 'd"', "true", "key:", "#k",
)  # fmt: skip


@dataclass
class Written:
    """A file: its text, what it means, where each value's entry is (from its key or dash to its end)."""

    dialect: str
    text: str = ""
    model: Any = None
    entries: dict[Path, tuple[int, int]] = field(default_factory=dict)
    comments: int = 0

    def put(self, text: str) -> None:
        self.text += text

    def comment(self) -> str:
        self.comments += 1
        return f'note{self.comments}~ it\'s "so", [x] {{y: 1}}'


def number(chance: random.Random) -> int | float:
    return chance.choice((0, 1, -7, 65536, 10**20, 1.5, -0.25, 1e-7, 2.5e30))


def scalar(chance: random.Random, dialect: str) -> Any:
    kind = chance.random()
    if kind < 0.5:
        return chance.choice(TEXTS)
    if kind < 0.75:
        return number(chance)
    if kind < 0.9 or dialect == "toml":
        return chance.random() < 0.5
    return None


def value(chance: random.Random, dialect: str, depth: int = 0) -> Any:
    kind = chance.random()
    if depth < 3 and kind < 0.3:
        names = chance.sample(NAMES, chance.randrange(4))
        return {name: value(chance, dialect, depth + 1) for name in names}
    if depth < 3 and kind < 0.5:
        return [value(chance, dialect, depth + 1) for _ in range(chance.randrange(4))]
    return scalar(chance, dialect)


def root(chance: random.Random, dialect: str) -> dict[str, Any]:
    return {name: value(chance, dialect) for name in chance.sample(NAMES, chance.randrange(1, 6))}


def disguise(written: Written, chance: random.Random, bom: bool = True) -> Written:
    """The same file with a BOM, CRLF, or no last line end, at random."""
    text = written.text
    if chance.random() < 0.2:
        written.entries = {p: (_moved(text, a), _moved(text, b)) for p, (a, b) in written.entries.items()}
        text = text.replace("\n", "\r\n")
    if chance.random() < 0.2:
        text = text.rstrip("\r\n")
    if bom and chance.random() < 0.1:
        text = "\ufeff" + text
        written.entries = {path: (start + 1, end + 1) for path, (start, end) in written.entries.items()}
    written.text = text
    return written


def _moved(text: str, position: int) -> int:
    return position + text.count("\n", 0, position)
