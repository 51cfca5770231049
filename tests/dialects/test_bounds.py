"""Every number that a request or a setting may hold has both its bounds, in whatever struct it stands."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated

import msgspec
import pytest
from msgspec.inspect import DictType, FloatType, IntType, ListType, StructType, TupleType, Type, UnionType, VarTupleType

from omlx.server import dialects, settings


def structs(package: ModuleType) -> Iterator[type[msgspec.Struct]]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(found.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, msgspec.Struct) and kind.__module__ == found.name:
                yield kind


def unbounded(kind: Type, path: str = "") -> list[str]:
    """The places of numbers that lack a bound."""
    match kind:
        case IntType() | FloatType():
            has_both = not (kind.ge is kind.gt is None) and not (kind.le is kind.lt is None)
            return [] if has_both else [path]
        case UnionType(types=kinds) | TupleType(item_types=kinds):
            return [place for each in kinds for place in unbounded(each, path)]
        case ListType(item_type=item) | VarTupleType(item_type=item) | DictType(value_type=item):
            return unbounded(item, f"{path}[]")
        case StructType(fields=fields):
            return [place for each in fields for place in unbounded(each.type, f"{path}.{each.encode_name}")]
        case _:
            return []


class Loose(msgspec.Struct):
    fine: Annotated[int, msgspec.Meta(ge=0, lt=9)] | str = ""
    half: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    numbers: list[int] | None = None


@pytest.mark.parametrize("package", [dialects, settings], ids=["requests", "settings"])
def test_every_number_has_both_bounds(package: ModuleType):
    kinds = list(structs(package))
    assert len(kinds) > 3
    found = [place for kind in kinds for place in unbounded(msgspec.inspect.type_info(kind), kind.__qualname__)]
    assert found == []


def test_a_number_without_bounds_is_found():
    assert unbounded(msgspec.inspect.type_info(Loose), "Loose") == ["Loose.half", "Loose.numbers[]"]
