"""Writes values as YAML that YAML 1.1 (PyYAML) and YAML 1.2 readers understand alike."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import date, datetime

from ..errors import EditError
from .model import Value

_WORDS = r"[A-Za-z_][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*"
_PLAIN = re.compile(rf"{_WORDS}(?: {_WORDS})*")
# read as something other than text by YAML 1.1 or 1.2 when they stand bare
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class YamlStyle:
    """How a file indents: its mappings, and its sequences inside a mapping (0 is PyYAML's own way)."""

    newline: str = "\n"
    mapping: int = 2
    sequence: int = 2

    def block(self, value: Value, column: int) -> str:
        """The value as indented lines; the first one without its indentation, the last one without its end."""
        separator = self.newline + " " * column
        if isinstance(value, dict) and value:
            return separator.join(f"{inline(key)}:{self.after_key(item, column)}" for key, item in value.items())
        if isinstance(value, list) and value:
            return separator.join(f"- {self.block(item, column + 2)}" for item in value)
        return inline(value)

    def after_key(self, value: Value, column: int) -> str:
        """What stands after the colon of a key in this column."""
        if not value or not isinstance(value, dict | list):
            return f" {inline(value)}"
        inner = self.indent(value, column)
        return f"{self.newline}{' ' * inner}{self.block(value, inner)}"

    def indent(self, value: Value, column: int) -> int:
        return column + (self.sequence if isinstance(value, list) else self.mapping)


def inline(value: Value, quote: str = "") -> str:
    """The value on one line. `quote` is kept for a text that replaces a quoted one."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{inline(key)}: {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    if isinstance(value, str):
        return _text(value, quote)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    raise EditError(f"YAML cannot hold {value!r}")


def _text(value: str, quote: str) -> str:
    if not quote and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    if quote == "'" and not _UNPRINTABLE.search(value):
        return "'" + value.replace("'", "''") + "'"
    token = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(_escape, token)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    token = repr(value)
    return token if "." in token or "e" not in token else token.replace("e", ".0e")
