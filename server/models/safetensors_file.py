"""The safetensors container: a header that is checked before anybody trusts it, and a writer that streams.

The file is a little-endian u64 header length, the header as JSON, then the tensors' bytes back to back.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from ..errors import CorruptModel, UnsupportedModel
from .folder import regular_size

Buffer: TypeAlias = bytes | bytearray | memoryview

ITEM_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}
MAX_HEADER_BYTES = 100_000_000
ALIGNMENT = 8
_Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
_Dimension: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""MLX holds it in 32 bits, and would take a larger one for another number, a negative one say."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's place in the header: its name, its safetensors type name and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BITS[self.dtype] // 8


class _Entry(msgspec.Struct):
    dtype: str
    shape: Annotated[list[_Dimension], msgspec.Meta(max_length=8)]
    data_offsets: tuple[_Size, _Size]


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    tensors: tuple[TensorSpec, ...]
    metadata: dict[str, str]

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


def header_bytes(path: Path) -> int:
    """Where the data begins in a file whose header was read."""
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def read_header(path: Path, *, may_lack_data: bool = False) -> SafetensorsHeader:
    """The header of `path`, checked against the file's size: every tensor has a known type, a sane shape and
    bytes of its own, and together they fill the file, which may also end behind the header where it `may_lack_data`.
    Raises `CorruptModel` or `UnsupportedModel`."""
    try:
        regular_size(path)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            if len(prefix) < 8:
                raise CorruptModel(f"{path}: {size} bytes are too few for a safetensors file")
            (length,) = struct.unpack("<Q", prefix)
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise CorruptModel(f"{path}: its header claims {length} bytes, the file has {size}")
            raw = file.read(length)
    except OSError as error:
        raise CorruptModel(f"{path}: cannot be read ({error.strerror or error})") from error
    header = _decode_header(path, raw)
    data_size = size - 8 - length
    if header.size_bytes != data_size and not (may_lack_data and data_size == 0):
        held = f"its tensors take {header.size_bytes} bytes, the file holds {data_size}"
        raise CorruptModel(f"{path}: {held}; download it again")
    return header


def _decode_header(path: Path, raw: bytes) -> SafetensorsHeader:
    try:
        document = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        # MLX writes null where there is none.
        metadata = msgspec.json.decode(document.pop("__metadata__", msgspec.Raw(b"null")), type=dict[str, str] | None)
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in document.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptModel(f"{path}: its header is not the JSON of a safetensors file ({error})") from error
    position, tensors = 0, list[TensorSpec]()
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in ITEM_BITS:
            raise UnsupportedModel(f"{path}: tensor {name!r} has the unknown type {entry.dtype!r}")
        tensor, (begin, end) = TensorSpec(name, entry.dtype, tuple(entry.shape)), entry.data_offsets
        if begin != position or end - begin != tensor.nbytes:
            needs = f"{entry.dtype} {entry.shape} needs {tensor.nbytes} bytes from {position}"
            raise CorruptModel(f"{path}: tensor {name!r} of {needs}, its header says {begin} to {end}")
        position = end
        tensors.append(tensor)
    return SafetensorsHeader(tuple(tensors), metadata or {})


class SafetensorsWriter:
    """Writes one file whose tensors are known beforehand and arrive in pieces, in any order of tensors.

    `append` adds bytes to a tensor, `close` checks that every tensor is whole and syncs the file to the disk.
    """

    def __init__(self, path: Path, tensors: Sequence[TensorSpec], metadata: dict[str, str]) -> None:
        header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
        self._cursors: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        position = 0
        for tensor in tensors:
            end = position + tensor.nbytes
            header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (position, end)}
            self._cursors[tensor.name], self._ends[tensor.name] = position, end
            position = end
        raw = msgspec.json.encode(header)
        raw += b" " * (-len(raw) % ALIGNMENT)
        self._start = 8 + len(raw)
        self._file = path.open("xb")
        self._file.write(struct.pack("<Q", len(raw)) + raw)

    def append(self, name: str, data: Buffer) -> None:
        cursor = self._cursors[name]
        end = cursor + len(data)
        assert end <= self._ends[name], f"{name} overflows its {self._ends[name]} bytes"
        self._file.seek(self._start + cursor)
        self._file.write(data)
        self._cursors[name] = end

    def close(self) -> None:
        unfinished = [name for name, cursor in self._cursors.items() if cursor != self._ends[name]]
        assert not unfinished, f"unfinished tensors: {unfinished}"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        self._file.close()
