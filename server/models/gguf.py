"""The GGUF container: its metadata and where its tensors lie, checked before anything is trusted.

Every count, length and offset is compared with what is left of the file before memory is taken for it, so a
hostile file costs a small multiple of its own size. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ..errors import CorruptModel, UnsupportedModel

Value: TypeAlias = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_LARGEST_PLAUSIBLE_VERSION = 100
_MAX_ALIGNMENT = 1 << 16
_MAX_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: `shape` is row-major (outermost first), `offset` counts from the start of the file."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]


def read_gguf(path: Path) -> GgufFile:
    """Read and check the header of `path`. Raises `CorruptModel` with the fact, `UnsupportedModel` by name."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise CorruptModel(f"{path}: the file is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _parse(path, _Cursor(path, view))
    except OSError as error:
        raise CorruptModel(f"{path}: cannot be read ({error.strerror or error})") from error


class _Cursor:
    """Reads forward through the file and never past its end."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self.path = path
        self.view = view
        self.size = len(view)
        self.position = 0

    def claim(self, what: str, count: int, item_bytes: int = 1) -> int:
        """Where the next `count` items begin; moves past them."""
        start, length = self.position, count * item_bytes
        if length > self.size - start:
            raise CorruptModel(f"{self.path}: {what} claims {length} bytes at {start}, the file has {self.size}")
        self.position += length
        return start

    def expect(self, what: str, count: int, least_bytes: int) -> None:
        """Refuse a count that the rest of the file cannot hold, at `least_bytes` an item."""
        if count * least_bytes > self.size - self.position:
            raise CorruptModel(f"{self.path}: {what} claims {count} items, the file has {self.size} bytes")

    def scalar(self, what: str, code: str) -> int:
        return struct.unpack_from(f"<{code}", self.view, self.claim(what, struct.calcsize(f"<{code}")))[0]

    def text(self, what: str) -> str:
        length = self.scalar(what, "Q")
        start = self.claim(what, length)
        try:
            return self.view[start : start + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorruptModel(f"{self.path}: {what} is not UTF-8") from error


def _parse(path: Path, cursor: _Cursor) -> GgufFile:
    start = cursor.claim("the magic number", 4)
    if cursor.view[start : start + 4] != _MAGIC:
        raise CorruptModel(f"{path}: not a GGUF file")
    version = cursor.scalar("the version", "I")
    if version not in _VERSIONS:
        if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
            raise UnsupportedModel(f"{path}: a big-endian GGUF, which is not supported; a little-endian one is")
        if version > _LARGEST_PLAUSIBLE_VERSION:
            raise CorruptModel(f"{path}: begins like a GGUF, and is none; download it again")
        raise UnsupportedModel(f"{path}: GGUF version {version} is not supported; versions 2 and 3 are")
    num_tensors = cursor.scalar("the tensor count", "Q")
    num_values = cursor.scalar("the metadata count", "Q")
    cursor.expect("the metadata", num_values, 13)
    metadata: dict[str, Value] = {}
    for index in range(num_values):
        key = cursor.text(f"key {index}")
        if key in metadata:
            raise CorruptModel(f"{path}: the metadata has {key!r} twice")
        metadata[key] = _value(cursor, key, cursor.scalar(f"the type of {key!r}", "I"))
    cursor.expect("the tensor table", num_tensors, 24)
    entries = [_tensor_entry(cursor, index) for index in range(num_tensors)]
    return GgufFile(path, metadata, _place(path, entries, metadata.get("general.alignment", 32), cursor))


def _value(cursor: _Cursor, key: str, kind: int) -> Value:
    if kind == _STRING:
        return cursor.text(repr(key))
    if kind in _SCALARS:
        return cursor.scalar(repr(key), _SCALARS[kind])
    if kind != _ARRAY:
        raise CorruptModel(f"{cursor.path}: {key!r} has the unknown value type {kind}")
    item_kind = cursor.scalar(f"the item type of {key!r}", "I")
    count = cursor.scalar(f"the length of {key!r}", "Q")
    if item_kind == _STRING:
        cursor.expect(repr(key), count, 8)
        return [cursor.text(repr(key)) for _ in range(count)]
    if item_kind not in _SCALARS:
        raise CorruptModel(f"{cursor.path}: {key!r} has items of the unknown type {item_kind}")
    code = _SCALARS[item_kind]
    start = cursor.claim(repr(key), count, struct.calcsize(f"<{code}"))
    return list(struct.unpack_from(f"<{count}{code}", cursor.view, start))


def _tensor_entry(cursor: _Cursor, index: int) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.text(f"the name of tensor {index}")
    num_dimensions = cursor.scalar(f"tensor {name!r}", "I")
    if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
        raise CorruptModel(f"{cursor.path}: tensor {name!r} has {num_dimensions} dimensions, 1 to 4 are possible")
    shape = tuple(cursor.scalar(f"tensor {name!r}", "Q") for _ in range(num_dimensions))[::-1]
    kind = cursor.scalar(f"tensor {name!r}", "I")
    return name, shape, kind, cursor.scalar(f"tensor {name!r}", "Q")


def _place(
    path: Path, entries: list[tuple[str, tuple[int, ...], int, int]], alignment: Value, cursor: _Cursor
) -> dict[str, GgufTensor]:
    """The tensors by name, each with bytes of its own inside the file."""
    if type(alignment) is not int or not 8 <= alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        raise CorruptModel(f"{path}: general.alignment is {alignment!r}, a power of two is needed")
    base = -(-cursor.position // alignment) * alignment
    tensors: dict[str, GgufTensor] = {}
    for name, shape, kind, offset in entries:
        if name in tensors:
            raise CorruptModel(f"{path}: tensor {name!r} is there twice")
        tensor_type, nbytes = _size(path, name, shape, kind)
        if offset % alignment or base + offset + nbytes > cursor.size:
            where = f"{nbytes} bytes at {base + offset}"
            raise CorruptModel(f"{path}: tensor {name!r} claims {where}, the file has {cursor.size}")
        tensors[name] = GgufTensor(name, tensor_type, shape, base + offset, nbytes)
    ordered = sorted(tensors.values(), key=lambda tensor: tensor.offset)
    for before, after in pairwise(ordered):
        if before.offset + before.nbytes > after.offset:
            raise CorruptModel(f"{path}: tensors {before.name!r} and {after.name!r} overlap")
    return tensors


def _size(path: Path, name: str, shape: tuple[int, ...], kind: int) -> tuple[GGMLQuantizationType, int]:
    try:
        tensor_type = GGMLQuantizationType(kind)
        block_items, block_bytes = GGML_QUANT_SIZES[tensor_type]
    except (ValueError, KeyError):
        raise UnsupportedModel(f"{path}: tensor {name!r} has the unknown type number {kind}") from None
    if 0 in shape or shape[-1] % block_items:
        blocks = f"rows of {block_items} or a multiple"
        raise CorruptModel(f"{path}: tensor {name!r} has the shape {list(shape)}; {tensor_type.name} needs {blocks}")
    return tensor_type, math.prod(shape) // block_items * block_bytes
