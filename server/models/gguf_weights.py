"""The weights of an import: how each tensor is stored, and the writing, a slice of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..errors import CorruptModel, UnsupportedModel
from ..requests import Json
from .gguf import GgufFile
from .gguf_llama import PlannedTensor
from .gguf_tensors import (
    FLOAT_TYPES,
    GROUP_SIZE,
    PACKED_BITS,
    READABLE_TYPES,
    Floats,
    Raw,
    dequantize_rows,
    float_bytes,
    repack_rows,
)
from .safetensors_file import SafetensorsWriter, TensorSpec

FLOAT_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_FLOAT_TYPES = {"float32": "F32", "bfloat16": "BF16", "4bit": "BF16", "8bit": "BF16"}
_NEW_BITS = {"4bit": 4, "8bit": 8}
_SLICE_VALUES = 1 << 24


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of the plan. `bits` is None for floats; `repacked` tensors keep their own quantization."""

    planned: PlannedTensor
    float_type: str
    bits: int | None
    group_size: int
    repacked: bool

    def specs(self) -> tuple[TensorSpec, ...]:
        name, shape = self.planned.name, self.planned.source.shape
        if self.bits is None:
            return (TensorSpec(name, self.float_type, shape),)
        rows, columns = shape
        groups = (rows, columns // self.group_size)
        prefix = name.removesuffix("weight")
        return (
            TensorSpec(name, "U32", (rows, columns * self.bits // 32)),
            TensorSpec(f"{prefix}scales", self.float_type, groups),
            TensorSpec(f"{prefix}biases", self.float_type, groups),
        )


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """All tensors to write. `quantization` is the config's entry of that name, None for plain floats."""

    path: Path
    tensors: tuple[StoredTensor, ...]
    float_type: str
    quantization: dict[str, Json] | None

    @property
    def size_bytes(self) -> int:
        return sum(spec.nbytes for tensor in self.tensors for spec in tensor.specs())


def plan_weights(file: GgufFile, tensors: Sequence[PlannedTensor], dtype: str) -> WeightPlan:
    """How to store `tensors`: `dtype` is keep, float32, bfloat16, 4bit or 8bit.

    Under `keep` one float type serves the whole model, for mixed ones would compute in float32: float16 where
    the file has scales or matrices in it, bfloat16 otherwise. Raises `UnsupportedModel` by tensor and type.
    """
    for tensor in tensors:
        source = tensor.source
        allowed = READABLE_TYPES if len(source.shape) == 2 else FLOAT_TYPES
        if source.type not in allowed:
            raise UnsupportedModel(f"{file.path}: the type {source.type.name} of {source.name!r} is not supported")
    matrices = {tensor.source.type.name for tensor in tensors if len(tensor.source.shape) == 2}
    has_half = bool(matrices & {"F16", *(packed.name for packed in PACKED_BITS)})
    float_type = _FLOAT_TYPES.get(dtype, "F16" if has_half else "BF16")
    group_size = _group_size(file, tensors) if dtype in _NEW_BITS else GROUP_SIZE
    stored: list[StoredTensor] = []
    for tensor in tensors:
        repacked = dtype == "keep" and tensor.source.type in PACKED_BITS
        bits = PACKED_BITS[tensor.source.type] if repacked else _NEW_BITS.get(dtype)
        if len(tensor.source.shape) != 2:
            bits = None
        stored.append(StoredTensor(tensor, float_type, bits, group_size, repacked))
    return WeightPlan(file.path, tuple(stored), float_type, _quantization(stored))


def _group_size(file: GgufFile, tensors: Sequence[PlannedTensor]) -> int:
    """MLX's usual 64 where every row divides by it, else 32."""
    for size in (64, 32):
        if all(tensor.source.shape[-1] % size == 0 for tensor in tensors if len(tensor.source.shape) == 2):
            return size
    raise UnsupportedModel(f"{file.path}: has rows that do not divide by 32, so MLX cannot quantize them")


def _quantization(tensors: Sequence[StoredTensor]) -> dict[str, Json] | None:
    """The config's entry: the commonest bits for all, and the tensors that differ by their path."""
    widths = [tensor.bits for tensor in tensors if tensor.bits is not None]
    if not widths:
        return None
    usual = max(set(widths), key=widths.count)
    entry: dict[str, Json] = {"group_size": tensors[0].group_size, "bits": usual, "mode": "affine"}
    for tensor in tensors:
        if tensor.bits not in (None, usual):
            path = tensor.planned.name.removesuffix(".weight")
            entry[path] = {"group_size": tensor.group_size, "bits": tensor.bits, "mode": "affine"}
    return entry


def write_weights(plan: WeightPlan, path: Path, progress: Callable[[int, int], None]) -> None:
    """Write `plan` to the new file `path` and sync it, holding one slice of rows in memory.

    Raises `CorruptModel` for values that are not finite, `UnsupportedModel` for ones float16 cannot hold.
    """
    specs = [spec for tensor in plan.tensors for spec in tensor.specs()]
    writer = SafetensorsWriter(path, specs, {"format": "mlx"})
    done = 0
    try:
        for tensor in plan.tensors:
            names = [spec.name for spec in tensor.specs()]
            for raw in _slices(plan.path, tensor.planned):
                for name, data in zip(names, _encode(plan.path, tensor, raw), strict=True):
                    writer.append(name, data)
                    done += len(data)
                progress(done, plan.size_bytes)
        writer.close()
    finally:
        writer.abandon()


def _slices(path: Path, planned: PlannedTensor) -> Iterator[Raw]:
    """The tensor's rows as bytes, (rows, bytes a row), in their new order; one value a row for vectors."""
    source = planned.source
    rows, columns = source.shape[0], source.shape[1] if len(source.shape) == 2 else 1
    table = np.memmap(path, np.uint8, "r", source.offset, (rows, source.nbytes // rows))
    step = max(1, _SLICE_VALUES // columns)
    for start in range(0, rows, step):
        chosen = slice(start, start + step)
        yield np.asarray(table[chosen if planned.row_order is None else planned.row_order[chosen]])


def _encode(path: Path, tensor: StoredTensor, raw: Raw) -> tuple[bytes, ...]:
    source = tensor.planned.source
    if tensor.repacked:
        weight, scales, biases = repack_rows(raw, source.type)
        _check_finite(path, source.name, scales, biases)
        return weight.tobytes(), scales.tobytes(), biases.tobytes()
    values = dequantize_rows(raw, source.type)
    _check_finite(path, source.name, values)
    if tensor.float_type == "F16" and np.abs(values).max() > np.finfo(np.float16).max:
        raise UnsupportedModel(f"{path}: {source.name!r} has values float16 cannot hold; give --type bfloat16")
    if tensor.bits is None:
        return (float_bytes(values, tensor.float_type),)
    return _quantize(values, tensor)


def _quantize(values: Floats, tensor: StoredTensor) -> tuple[bytes, ...]:
    weight, scales, biases = mx.quantize(mx.array(values), group_size=tensor.group_size, bits=tensor.bits or 4)
    floats = (float_bytes(np.array(array), tensor.float_type) for array in (scales, biases))
    return np.array(weight).tobytes(), *floats


def _check_finite(path: Path, name: str, *arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise CorruptModel(f"{path}: tensor {name!r} has values that are no numbers")
