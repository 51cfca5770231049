"""What lies in a GGUF tensor, as numbers or repacked for MLX. Everything works on whole rows.

MLX keeps a group's values as `scale * q + bias` with unsigned q; Q4_0, Q4_1 and Q8_0 are that same thing in
another order, so they are repacked without loss. All other types are read by the format's own `gguf` package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

Floats = npt.NDArray[np.float32]
Raw = npt.NDArray[np.uint8]

GROUP_SIZE = 32
"""Values that share a scale in Q4_0, Q4_1 and Q8_0."""
PACKED_BITS = {Type.Q4_0: 4, Type.Q4_1: 4, Type.Q8_0: 8}
FLOAT_TYPES = frozenset({Type.F32, Type.F16, Type.BF16})
_K_TYPES = (Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K)
_I_TYPES = (Type.IQ4_NL, Type.IQ4_XS, Type.IQ3_S, Type.IQ3_XXS, Type.IQ2_S, Type.IQ2_XS, Type.IQ2_XXS, Type.IQ1_M)
READABLE_TYPES = FLOAT_TYPES | {*PACKED_BITS, Type.Q5_0, Type.Q5_1, *_K_TYPES, *_I_TYPES, Type.IQ1_S}


def dequantize_rows(raw: Raw, tensor_type: Type) -> Floats:
    """The values of `raw`, bytes of shape (rows, bytes a row), as (rows, columns)."""
    return np.ascontiguousarray(dequantize(np.ascontiguousarray(raw), tensor_type), dtype=np.float32)


def repack_rows(raw: Raw, tensor_type: Type) -> tuple[npt.NDArray[np.uint32], npt.NDArray[Any], npt.NDArray[Any]]:
    """A packed tensor's rows as MLX holds them: weight (rows, columns * bits / 32) in uint32, scales and biases
    (rows, columns / 32) in float16."""
    num_rows = raw.shape[0]
    header_bytes = 4 if tensor_type is Type.Q4_1 else 2
    block_bytes = header_bytes + GROUP_SIZE * PACKED_BITS[tensor_type] // 8
    blocks = np.ascontiguousarray(raw).reshape(num_rows, -1, block_bytes)
    header = np.ascontiguousarray(blocks[..., :header_bytes]).view("<f2")
    scales, quants = header[..., 0], blocks[..., header_bytes:]
    if tensor_type is Type.Q8_0:
        packed = quants ^ 0x80
        biases = scales * np.float16(-128)
    else:
        # A block's low nibbles are its first 16 values, the high ones the rest; MLX wants neighbours together.
        values = np.concatenate([quants & 0x0F, quants >> 4], axis=-1)
        packed = values[..., 0::2] | (values[..., 1::2] << 4)
        biases = header[..., 1] if tensor_type is Type.Q4_1 else scales * np.float16(-8)
    weight = np.ascontiguousarray(packed).reshape(num_rows, -1).view("<u4")
    return weight, np.ascontiguousarray(scales), np.ascontiguousarray(biases)


def float_bytes(values: npt.NDArray[Any], dtype: str) -> bytes:
    """`values` in the safetensors type `dtype`: F32, F16, or BF16 rounded to nearest, ties to even."""
    if dtype == "F32":
        return np.ascontiguousarray(values, dtype="<f4").tobytes()
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values, dtype="<f2").tobytes()
    assert dtype == "BF16"
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
