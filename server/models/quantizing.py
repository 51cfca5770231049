"""A model's layers in a packed format. Nothing is computed here: the arrays are asked for when they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..requests import Json


@dataclass(frozen=True, slots=True)
class Packing:
    """How weights are packed, in MLX's words."""

    group_size: int
    bits: int
    mode: str = "affine"

    @property
    def name(self) -> str:
        """As a model's name has it: 4bit, mxfp4."""
        return f"{self.bits}bit" if self.mode == "affine" else self.mode

    def as_json(self) -> dict[str, Json]:
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}


class Bits(StrEnum):
    FOUR = "4"
    EIGHT = "8"
    MXFP4 = "mxfp4"

    @property
    def packing(self) -> Packing:
        return Packing(32, 4, "mxfp4") if self is Bits.MXFP4 else Packing(64, int(self))

    @property
    def suffix(self) -> str:
        return self.packing.name


def has_only_a_cpu() -> bool:
    """Whether MLX computes on a CPU here, where BLAS multiplies float32 alone: other and packed weights are slow."""
    return not (mx.metal.is_available() or mx.cuda.is_available())


def quantize(model: nn.Module, bits: Bits) -> dict[str, Json]:
    """Pack every layer that can be, and say how in the words of a config's `quantization`.

    What is packed already in as few bits stays as it is, bit for bit; what is packed in more is unpacked and packed
    anew. Layers that the model's own `quant_predicate` spares are spared.
    """
    wanted = bits.packing
    spares: Callable[[str, nn.Module], Any] | None = getattr(model, "quant_predicate", None)
    described: dict[str, Json] = wanted.as_json()
    for _, module in list(model.named_modules()):
        if "scales" in module:
            packed = _packed_as(module)
            if packed.bits > wanted.bits and _fits(module.weight.shape[-1] * 32 // packed.bits, wanted):
                _repack(module, packed, wanted)
    nn.quantize(model, class_predicate=lambda path, module: _choice(path, module, wanted, spares))
    described |= {path: packed.as_json() for path, packed in packings(model).items() if packed != wanted}
    return described


def packings(model: nn.Module) -> dict[str, Packing]:
    """How each packed layer is packed, by its path."""
    return {path: _packed_as(module) for path, module in model.named_modules() if "scales" in module}


def _choice(path: str, module: Any, wanted: Packing, spares: Callable[[str, nn.Module], Any] | None) -> Any:
    """What `nn.quantize` is to do with a module: nothing, or a packing."""
    if not hasattr(module, "to_quantized") or not _fits(module.weight.shape[-1], wanted):
        return False
    if wanted.mode != "affine" and isinstance(module, nn.Embedding):
        return False  # MLX gives its rows in bfloat16, whatever the model computes in
    choice = True if spares is None else spares(path, module)
    return wanted.as_json() if choice is True else choice


def _fits(columns: int, wanted: Packing) -> bool:
    return columns % wanted.group_size == 0


def _packed_as(module: Any) -> Packing:
    return Packing(module.group_size, module.bits, module.mode)


def _repack(module: Any, packed: Packing, wanted: Packing) -> None:
    plain = mx.dequantize(module.weight, module.scales, module.get("biases"), **packed.as_json())  # pyright: ignore
    module.weight, module.scales, *biases = mx.quantize(plain, **wanted.as_json())  # pyright: ignore
    module.pop("biases", None)
    if biases:
        module.biases = biases[0]
    module.group_size, module.bits, module.mode = wanted.group_size, wanted.bits, wanted.mode
