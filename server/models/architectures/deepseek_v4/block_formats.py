"""DeepSeek's block formats: bytes with a scale for every block of them.

    FP8   e4m3, one scale for a block of (usually) 128 by 128; the last blocks of a row or column may be cut off
    FP4   e2m1, two in a byte, the first in the low half; one scale for 32 of a row

A scale is a power of two (E8M0: the byte is its exponent plus 127), or a plain float. MLX reads F8 tensors
as bytes, so that a byte must never be taken for the number it stands for.
"""

from __future__ import annotations

from typing import Final

import mlx.core as mx

from ....errors import CorruptModel

MXFP4: Final = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
MXFP8: Final = {"group_size": 32, "bits": 8, "mode": "mxfp8"}
_GROUP = 32
_BYTES = (mx.uint8, mx.int8)


def is_bytes(array: mx.array) -> bool:
    return array.dtype in _BYTES


def is_fp4(weight: mx.array, scale: mx.array) -> bool:
    """Whether bytes [..., rows, columns / 2] go with scales [..., rows, columns / 32]."""
    return scale.shape[-2] == weight.shape[-2] and scale.shape[-1] * _GROUP == 2 * weight.shape[-1]


def dequantized(name: str, weight: mx.array, scale: mx.array, block: tuple[int, int]) -> mx.array:
    """The numbers in bfloat16, which holds every FP8 or FP4 value times a power of two exactly."""
    _check(name, weight, scale, block)
    if is_fp4(weight, scale):
        packed = weight.view(mx.uint32)
        exponents = scale if scale.dtype == mx.uint8 else mx.full(scale.shape, 127, mx.uint8)
        values = mx.dequantize(packed, exponents, **MXFP4)
        return values if scale.dtype == mx.uint8 else (values * mx.repeat(scale, _GROUP, -1)).astype(mx.bfloat16)
    factors = _powers(scale) if scale.dtype == mx.uint8 else scale.astype(mx.float32)
    values = mx.from_fp8(weight, mx.float32) * _spread(factors, block, weight.shape)
    return values.astype(mx.bfloat16)


def packed_for_mlx(
    name: str, weight: mx.array, scale: mx.array, block: tuple[int, int]
) -> tuple[mx.array, mx.array, dict[str, int | str]] | None:
    """The same numbers as MLX packs them: weight, scales and format; None where MLX has no such format."""
    _check(name, weight, scale, block)
    if scale.dtype != mx.uint8:
        return None
    if is_fp4(weight, scale):
        return weight.view(mx.uint32), scale, dict(MXFP4)
    columns = weight.shape[-1]
    if columns % _GROUP or block[1] % _GROUP:
        return None
    scales = _spread(scale, (block[0], block[1] // _GROUP), (*weight.shape[:-1], columns // _GROUP))
    return weight.view(mx.uint32), scales, dict(MXFP8)


def _check(name: str, weight: mx.array, scale: mx.array, block: tuple[int, int]) -> None:
    if not is_bytes(weight):
        raise CorruptModel(f"{name}: has a scale, but its type is {weight.dtype}, neither FP8 nor packed FP4")
    fp8 = tuple(-(-size // edge) for size, edge in zip(weight.shape[-2:], block, strict=True))
    if not is_fp4(weight, scale) and (weight.dtype != mx.uint8 or scale.shape[-2:] != fp8):
        raise CorruptModel(
            f"{name}: scales of shape {scale.shape} fit weights of shape {weight.shape} neither as FP8 in blocks of "
            f"{block} nor as FP4 in groups of {_GROUP}"
        )


def _powers(exponents: mx.array) -> mx.array:
    """2 ** (byte - 127), put together from its bits: no rounding."""
    return (exponents.astype(mx.uint32) << 23).view(mx.float32)


def _spread(scale: mx.array, block: tuple[int, int], shape: tuple[int, ...]) -> mx.array:
    """One scale for every element: blocks repeated, and cropped at the edges."""
    full = mx.repeat(mx.repeat(scale, block[0], axis=-2), block[1], axis=-1)
    return full[..., : shape[-2], : shape[-1]]
