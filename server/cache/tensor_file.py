"""Named arrays as the bytes of a safetensors file, and back. Knows nothing of MLX."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 16 << 20
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1, "U16": 2, "U32": 4, "U64": 8, "I8": 1, "I16": 2, "I32": 4}
_ITEM_BYTES |= {"I64": 8, "F64": 8, "BOOL": 1}


class DamagedFile(ValueError):
    """These bytes are not a file `pack` wrote."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`data` is the array row by row, little-endian; `dtype` has safetensors' name."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.nbytes
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [position, end]}
        position = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % _LENGTH_BYTES)
    return b"".join(
        [len(encoded).to_bytes(_LENGTH_BYTES, "little"), encoded, *(tensor.data for tensor in tensors.values())]
    )


def unpack(raw: bytes | memoryview) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, which look into `raw`, and the metadata. Raises `DamagedFile`."""
    try:
        start = _LENGTH_BYTES + int.from_bytes(raw[:_LENGTH_BYTES], "little")
        header = json.loads(bytes(raw[_LENGTH_BYTES:start]))
        metadata = header.pop("__metadata__")
        tensors = {name: _tensor(entry, memoryview(raw)[start:]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"not a cache file: {error}") from error
    return tensors, metadata


def read_metadata(file: Path) -> Mapping[str, object]:
    """The metadata alone, from the file's head, which nothing vouches for. Raises `DamagedFile`, and `OSError`."""
    with file.open("rb", buffering=0) as opened:
        length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        head = opened.read(min(length, _MAX_HEADER_BYTES))
    try:
        metadata = json.loads(head)["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFile(f"not a cache file: {error}") from error
    if not isinstance(metadata, dict):
        raise DamagedFile("not a cache file: its metadata are none")
    return metadata


def _tensor(entry: Mapping[str, object], data: memoryview) -> Tensor:
    begin, end = entry["data_offsets"]  # pyright: ignore[reportGeneralTypeIssues]
    tensor = Tensor(str(entry["dtype"]), tuple(entry["shape"]), data[begin:end])  # pyright: ignore[reportArgumentType]
    if len(tensor.data) != tensor.nbytes:
        raise ValueError("a tensor's size and its shape disagree")
    return tensor
