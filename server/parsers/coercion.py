"""Argument values that formats write without JSON's types, given the type their schema asks for."""

from __future__ import annotations

import ast
import json
from typing import Any

from ..requests import Json, ToolDefinition

_COMBINERS = ("anyOf", "oneOf", "allOf")
_LITERAL_LIMIT = 20_000
_JSON_TYPES = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


def types_of(tool: ToolDefinition | None, key: str) -> frozenset[str]:
    """The JSON types that argument `key` may have; empty where the tool does not say."""
    properties = tool.parameters.get("properties") if tool else None
    return _types(properties.get(key)) if isinstance(properties, dict) else frozenset()


def coerce(text: str, types: frozenset[str]) -> Json:
    """`text` as the most special of `types` it can be read as, as itself where there is none."""
    stripped = text.strip()
    if stripped.lower() == "null" or ("null" in types and stripped.lower() in ("none", "nil")):
        return None
    if "boolean" in types and stripped.lower() in ("true", "false"):
        return stripped.lower() == "true"
    value = _parsed(stripped)
    if value == stripped:
        return text
    if isinstance(value, float) and value.is_integer() and not {"object", "array"} & types:
        value = int(value)
    fits = not types or _type_name(value) in types or (isinstance(value, int) and "number" in types)
    return text if "string" in types and not fits else value


def _types(schema: Any, depth: int = 0) -> frozenset[str]:
    if not isinstance(schema, dict) or depth > 8:
        return frozenset()
    declared = schema.get("type")
    found = {declared} if isinstance(declared, str) else set()
    if isinstance(declared, list):
        found |= {name for name in declared if isinstance(name, str)}
    values = schema.get("enum")
    if isinstance(values, list) and not found:
        found |= {_type_name(value) for value in values}
    for combiner in _COMBINERS:
        choices = schema.get(combiner)
        for choice in choices if isinstance(choices, list) else ():
            found |= _types(choice, depth + 1)
    return frozenset(name.lower() for name in found)


def _type_name(value: object) -> str:
    return next((name for kind, name in _JSON_TYPES if isinstance(value, kind)), "null")


def _parsed(text: str) -> Json:
    """JSON, else a Python literal that JSON can hold, else the text."""
    try:
        return json.loads(text, strict=False, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    if not text.startswith(("[", "{", "(", "True", "False", "None")) or len(text) > _LITERAL_LIMIT:
        return text
    try:
        value = ast.literal_eval(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
