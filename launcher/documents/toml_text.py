"""Writes values as TOML."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import date, datetime, time

from ..errors import EditError
from .model import Value

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dotted(keys: Sequence[str | int]) -> str:
    """A header's or a dotted key's text; the places in lists are not written, TOML means the last item."""
    return ".".join(key if _BARE_KEY.fullmatch(key) else _text(key) for key in keys if isinstance(key, str))


def inline(value: Value, quote: str = "") -> str:
    """The value on one line. `quote` is kept for a text that replaces a quoted one."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dotted((key,))} = {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    if isinstance(value, str):
        return _text(value, quote)
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    raise EditError(f"TOML cannot hold {'null' if value is None else repr(value)}")


def sections(keys: Sequence[str | int], value: dict[str, Value], newline: str) -> str:
    """The value as `[keys]` and the tables below it; without the last line's end."""
    tables = {key: item for key, item in value.items() if isinstance(item, dict) and item}
    pairs = [f"{dotted((key,))} = {inline(item)}" for key, item in value.items() if key not in tables]
    texts = [newline.join([f"[{dotted(keys)}]", *pairs])] if pairs or not tables else []
    return (newline * 2).join(texts + [sections((*keys, key), item, newline) for key, item in tables.items()])


def list_item(keys: Sequence[str | int], value: dict[str, Value], newline: str) -> str:
    """The value as one `[[keys]]`; without the last line's end."""
    return newline.join([f"[[{dotted(keys)}]]", *(f"{dotted((key,))} = {inline(item)}" for key, item in value.items())])


def _text(value: str, quote: str = "") -> str:
    if re.search("[\ud800-\udfff]", value):
        raise EditError("TOML cannot hold half of a surrogate pair")
    if quote == "'" and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
