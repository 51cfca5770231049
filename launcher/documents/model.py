"""Plain values, paths into them, and the changes an integration may ask for.

Everything here works on values read from a document, never on text; the formats keep their texts themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import EditError

Value: TypeAlias = Any
"""None, bool, int, float, str, a list or dict of values; TOML and YAML also read dates and times."""

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Where:
    """A step to the list item that is a mapping with `key` equal to `value`; setting appends one if there is none."""

    key: str
    value: str


Step: TypeAlias = str | int | Where
Steps: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """Give `path` this value. Missing (or null) parents are created; a mapping is merged key by key where one stands,
    so that comments inside it survive, and keys that it does not name are removed."""

    path: Steps
    value: Value


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove `path`; nothing happens when it is not there."""

    path: Steps


Change: TypeAlias = Set | Delete


class Absent:
    """The type of `ABSENT`, which stands for "no such path" where None is a value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


def same(left: Value, right: Value) -> bool:
    """Equal in value and type: 1, 1.0 and True differ, NaN equals NaN, the order of keys does not count."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right)


def show(path: Steps) -> str:
    """The path as a user would write it: `provider.omlx.models[0]`."""
    text = ""
    for step in path:
        if isinstance(step, str):
            text += f".{step}" if text else step
        else:
            text += f"[{step.key}={step.value}]" if isinstance(step, Where) else f"[{step}]"
    return text or "the whole document"


def resolve(model: Value, path: Steps) -> Path:
    """Turn each `Where` into an index; the index after the last item when no item matches."""
    resolved: list[str | int] = []
    for step in path:
        if isinstance(step, Where):
            step = _index(model, step)
        resolved.append(step)
        model = _child(model, step)
    return tuple(resolved)


def _index(model: Value, where: Where) -> int:
    if not isinstance(model, list):
        return 0
    for index, item in enumerate(model):
        if isinstance(item, dict) and item.get(where.key) == where.value:
            return index
    return len(model)


def _child(model: Value, step: str | int) -> Value:
    if isinstance(step, str) and isinstance(model, dict):
        return model.get(step, ABSENT)
    if isinstance(step, int) and isinstance(model, list) and 0 <= step < len(model):
        return model[step]
    return ABSENT


def get(model: Value, path: Steps) -> Value:
    """The value at `path`, or ABSENT."""
    for step in resolve(model, path):
        model = _child(model, step)
    return model


def first_missing(model: Value, path: Steps) -> int | None:
    """How long the shortest prefix of `path` is that has no value (or null, short of the end); None if all is there."""
    steps = resolve(model, path)
    for length in range(1, len(steps) + 1):
        found = get(model, steps[:length])
        if found is ABSENT or (found is None and length < len(steps)):
            return length
    return None


def steps_for(model: Value, change: Change) -> list[Change]:
    """The change as steps that each touch one node: every parent exists, and no step replaces a mapping by a mapping.

    Raises EditError when the path leads through something that is no mapping or list.
    """
    path = resolve(model, change.path)
    if isinstance(change, Delete):
        return [] if get(model, path) is ABSENT else [Delete(path)]
    missing = first_missing(model, path)
    if missing is None:
        return _merge(path, get(model, path), _with_key(change.path, change.value))
    parent = get(model, path[: missing - 1])
    step = path[missing - 1]
    fits = isinstance(parent, dict) if isinstance(step, str) else isinstance(parent, list) and step <= len(parent)
    if not fits and get(model, path[:missing]) is ABSENT:
        blocked = path[: missing - 1]
        raise EditError(f"{show(blocked)} holds {_kind(parent)}, so {show(path)} cannot be set", blocked)
    value = _with_key(change.path, change.value)
    for length in range(len(change.path) - 1, missing - 1, -1):
        wanted = change.path[length]
        value = {wanted: value} if isinstance(wanted, str) else [value]
        value = _with_key(change.path[:length], value)
    return [Set(path[:missing], value)]


def _with_key(path: Steps, value: Value) -> Value:
    """A list item that is found by a key has that key."""
    if path and isinstance(path[-1], Where) and isinstance(value, dict):
        return {path[-1].key: path[-1].value, **value}
    return value


def _merge(path: Path, old: Value, new: Value) -> list[Change]:
    if same(old, new):
        return []
    if isinstance(old, dict) and isinstance(new, dict) and new:
        changes: list[Change] = []
        for key, value in new.items():
            changes += _merge((*path, key), old[key], value) if key in old else [Set((*path, key), value)]
        return changes + [Delete((*path, key)) for key in old if key not in new]
    if isinstance(old, list) and isinstance(new, list) and old and new:
        changes = []
        for index, value in enumerate(new):
            item = (*path, index)
            changes += _merge(item, old[index], value) if index < len(old) else [Set(item, value)]
        return changes + [Delete((*path, index)) for index in reversed(range(len(new), len(old)))]
    return [Set(path, new)]


def applied(model: Value, changes: Sequence[Change]) -> Value:
    """A copy of the model with the (single-node) changes made."""
    for change in changes:
        model = _applied(model, change.path, change)
    return model


def _applied(model: Value, path: Steps, change: Change) -> Value:
    if not path:
        return change.value if isinstance(change, Set) else None
    step = path[0]
    copy = dict(model) if isinstance(model, dict) else list(model)
    last = len(path) == 1
    if last and isinstance(change, Delete):
        del copy[step]  # pyright: ignore[reportArgumentType, reportCallIssue]
    elif isinstance(copy, list) and step == len(copy):
        copy.append(_applied(None, path[1:], change))
    else:
        copy[step] = _applied(None if last else copy[step], path[1:], change)  # pyright: ignore
    return copy


def _kind(value: Value) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "nothing" if value is None else f"{value!r:.40}"
