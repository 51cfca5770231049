"""Schemas as the compiler can take them: what is out of its reach left out, what it would choke on refused.

The compiler's own limits do not count the time it takes over very many properties (their number squared) or over the
remainders of `multipleOf` (a state each, and the states of two multiples at once).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

from ..requests import Json

MAX_PROPERTIES = 2000
MAX_PROPERTIES_OF_ONE = 500
MAX_MULTIPLE = 2000
_VALUES = frozenset({"const", "enum", "default", "examples"})
"""What stands under these is no schema."""
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)  # llguidance's docs/json_schema.md


def too_dear(schema: Json) -> str:
    """Why the schema is not to be compiled, "" where it may be."""
    properties, multiple = 0, 1
    nodes = [schema]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            nodes += node.values()
            own = node.get("properties")
            count = len(own) if isinstance(own, dict) else 0
            if count > MAX_PROPERTIES_OF_ONE:
                return f"an object has {count} properties, at most {MAX_PROPERTIES_OF_ONE} can be followed"
            properties += count
            multiple = math.lcm(multiple, _digits(node.get("multipleOf")))
    if properties > MAX_PROPERTIES:
        return f"it has {properties} properties, at most {MAX_PROPERTIES} can be followed"
    if multiple > MAX_MULTIPLE:
        return f"its multipleOf together need {multiple} remainders, at most {MAX_MULTIPLE} can be followed"
    return ""


def without_multiples(schema: dict[str, Json]) -> dict[str, Json]:
    """The schema with its `multipleOf` left out, for where it need not be followed to the letter."""
    return _without(schema, lambda key, value: key == "multipleOf" and isinstance(value, int | float))


def without_unknown_formats(schema: dict[str, Json]) -> dict[str, Json]:
    """The schema without a `format` that the compiler does not know: JSON Schema has those ignored."""
    return _without(schema, lambda key, value: key == "format" and isinstance(value, str) and value not in _FORMATS)


def _without(schema: dict[str, Json], is_dropped: Callable[[str, Json], bool]) -> dict[str, Json]:
    def kept(node: Json) -> Json:
        if isinstance(node, list):
            return [kept(item) for item in node]
        return _without(node, is_dropped) if isinstance(node, dict) else node

    return {
        key: value if key in _VALUES else kept(value) for key, value in schema.items() if not is_dropped(key, value)
    }


def _digits(value: Json) -> int:
    """The digits of a number without its decimal point: 25 for 0.25, 1 for 0.01 and for what is no multiple."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
        return 1
    digits, exponent = Decimal(str(abs(value))).as_tuple()[1:]
    number = int("".join(map(str, digits)))
    return number * 10 ** max(int(exponent), 0)
