"""Schemas and patterns as the compiler can take them: what is out of its reach left out, what it chokes on refused.

The compiler's own limits do not count the time it takes over very many properties (their number squared) or over the
remainders of `multipleOf` (a state each, and the states of two multiples at once). They do count a text's states, one a
character, but only when the answer has come to them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal

from ..requests import Json

MAX_PROPERTIES = 2000
MAX_PROPERTIES_OF_ONE = 500
MAX_MULTIPLE = 2000
MAX_LEVELS = 3000
"""Of a schema, one below the other: three times as many as a usual stack of 8 MB holds; `deep_stack` holds 8,000."""
MAX_JOINED = 12
"""Patterns that one text is to match together. Each doubles what the compiler looks at: no time for 12, and all
of the memory for 24."""
MAX_PATTERN = 10_000
"""Characters, with what is repeated written out: half of the states that `grammar_limits` leaves."""
_COUNTED = 10**9
"""Characters, or remainders: what is more is told as these. Repetitions of repetitions come to numbers that are too
long to be printed."""
_VALUES = frozenset({"const", "enum", "default", "examples"})
"""What stands under these is no schema."""
_ANNOTATIONS = frozenset(
    {"$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated", "description", "examples", "title"}
)
"""These hold a value to nothing."""
_COMBINING = frozenset({"allOf", "anyOf", "oneOf", "$ref"})
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)  # llguidance's docs/json_schema.md


_REPETITION = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")
_GROUP = re.compile(r"\((?:\?(?:[\w-]*:|P?<\w+>))?")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]?", re.DOTALL)
_LITERAL = re.compile(r'//.*|"((?:[^"\\\n]|\\.)*)"?|/((?:[^/\\\n]|\\.)+)/?')
"""A comment, a text, or a pattern. One that is not closed ends with its line: to look for its end anew from every mark
in it took a minute."""


def pattern_size(pattern: str) -> int:
    """How many characters and classes a regular expression comes to with its counted repetitions written out, or
    `_COUNTED` where that is less."""
    groups, last, position = [0], 0, 0
    while position < len(pattern):
        character, width = pattern[position], 1
        if character == "{" and last and (counted := _REPETITION.match(pattern, position)):
            times = max(int(counted[1]), int(counted[2] or 0), 1)
            groups[-1] += last * (times - 1)
            last, width = min(last * times, _COUNTED), len(counted[0])
        elif character == "(" and (opening := _GROUP.match(pattern, position)):
            groups.append(0)
            width = len(opening[0])
        elif character == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif character not in "*+?|^$":
            if character == "[" and (found := _CLASS.match(pattern, position)):
                width = len(found[0])
            elif character == "\\":
                width = 2
            groups[-1] += 1
            last = 1
        position += width
    return min(sum(groups), _COUNTED)


def grammar_size(text: str) -> int:
    """The same of all texts and patterns of a Lark or GBNF grammar together."""
    return sum(len(text) + pattern_size(pattern) for text, pattern in _LITERAL.findall(text))


def too_joined(text: str) -> str:
    """Why a Lark grammar is not to be compiled for its `&`, "" where it may be."""
    return _too_many_joined(_LITERAL.sub("", text).count("&") + 1)


def _too_many_joined(count: int) -> str:
    if count <= MAX_JOINED:
        return ""
    return f"{count} patterns may have to hold of one text, at most {MAX_JOINED} can be followed"


def too_long(size: int) -> str:
    """Why a pattern of this size is not to be compiled, "" where it may be."""
    if size <= MAX_PATTERN:
        return ""
    return (
        f"it comes to {_told(size)} characters with its repetitions written out, at most {MAX_PATTERN} can be followed"
    )


def _told(count: int) -> str:
    return str(count) if count < _COUNTED else f"{_COUNTED} or more"


def too_dear(schema: Json) -> str:
    """Why the schema is not to be compiled, "" where it may be."""
    properties, multiple = 0, 1
    for node in _objects(schema):
        own = node.get("properties")
        count = len(own) if isinstance(own, dict) else 0
        if count > MAX_PROPERTIES_OF_ONE:
            return f"an object has {count} properties, at most {MAX_PROPERTIES_OF_ONE} can be followed"
        if reason := too_long(_text_size(node)):
            return f"of a pattern, const or enum in it: {reason}"
        properties += count
        if (multiple := math.lcm(multiple, _digits(node.get("multipleOf")))) > MAX_MULTIPLE:
            return f"its multipleOf together need {_told(multiple)} remainders, at most {MAX_MULTIPLE} can be followed"
    if properties > MAX_PROPERTIES:
        return f"it has {properties} properties, at most {MAX_PROPERTIES} can be followed"
    return ""


def too_deep(schema: Json) -> str:
    """Why the schema is not to be compiled, "" where it may be.

    The compiler goes down references as it goes down what is nested, and each definition may stand below all others.
    """
    references, depth = set[str](), 0
    level = [schema]
    while level:
        depth += 1
        children: list[Json] = []
        for node in level:
            if isinstance(node, dict):
                children += node.values()
                if isinstance(target := node.get("$ref"), str):
                    references.add(target)
            elif isinstance(node, list):
                children += node
        level = [child for child in children if isinstance(child, dict | list)]
    levels = depth * (len(references) + 1)
    if levels <= MAX_LEVELS:
        return ""
    return (
        f"its {len(references)} references to schemas {depth} deep come to {levels} levels, "
        f"at most {MAX_LEVELS} can be followed"
    )


def too_joined_schema(schema: Json) -> str:
    """Why a schema is not to be compiled for the patterns that it may join, "" where it may be."""
    patterns, joins = 0, False
    for node in _objects(schema):
        patterns += isinstance(node.get("pattern"), str)
        joins = joins or _joins(node)
    return _too_many_joined(patterns) if joins else ""


def _objects(value: Json) -> Iterator[dict[str, Json]]:
    """All JSON objects in it, however deep."""
    left = [value]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left += node
        elif isinstance(node, dict):
            left += node.values()
            yield node


def _joins(node: dict[str, Json]) -> bool:
    """Whether several schemas have to hold of one value: all of a list, or another one beside what stands here."""
    all_of = node.get("allOf")
    is_list = isinstance(all_of, list) and len(all_of) > 1
    return is_list or (not node.keys().isdisjoint(_COMBINING) and len(node.keys() - _ANNOTATIONS) > 1)


def _text_size(node: dict[str, Json]) -> int:
    """Of the longest text that one schema asks for."""
    pattern, enum = node.get("pattern"), node.get("enum")
    texts = [node.get("const"), *(enum if isinstance(enum, list) else ())]
    sizes = [len(text) for text in texts if isinstance(text, str)]
    return max([pattern_size(pattern) if isinstance(pattern, str) else 0, *sizes])


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
    if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
        return 1
    if isinstance(value, int):
        return abs(value)
    if not math.isfinite(value):
        return 1
    digits, exponent = Decimal(str(abs(value))).as_tuple()[1:]
    number = int("".join(map(str, digits)))
    return number * 10 ** max(int(exponent), 0)
