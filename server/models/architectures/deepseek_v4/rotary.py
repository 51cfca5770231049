"""Rotary positions of V4: interleaved pairs, on the last channels of a head.

Layers without compression turn by `rope_theta` alone; compressed layers by `compress_rope_theta`, stretched
by YaRN, and so do their compressed rows and index keys. Keys are values too, so that the attention's output
is turned back by the query's position.
"""

from __future__ import annotations

import math

import mlx.core as mx

from .config import ModelArgs, Yarn


class Rotary:
    """Turns the last `rope_dim` channels of a head; the others stay."""

    def __init__(self, rope_dim: int, theta: float, yarn: Yarn | None) -> None:
        self._rope_dim = rope_dim
        self._wavelengths = mx.array(_wavelengths(rope_dim, theta, yarn), dtype=mx.float32)

    @classmethod
    def of_layer(cls, args: ModelArgs, ratio: int) -> Rotary:
        if ratio == 0:
            return cls(args.qk_rope_head_dim, args.rope_theta, None)
        return cls(args.qk_rope_head_dim, args.compress_rope_theta, args.yarn)

    def __call__(self, x: mx.array, first: int | mx.array, *, stride: int = 1, inverse: bool = False) -> mx.array:
        """Turn x [B, H, L, D]: row i stands at position (first + i) * stride; `first` may differ by batch row."""
        still, turning = mx.split(x, [x.shape[-1] - self._rope_dim], axis=-1)
        turned = mx.fast.rope(
            turning,
            self._rope_dim,
            traditional=True,
            base=None,
            scale=float(stride),
            offset=first,
            freqs=-self._wavelengths if inverse else self._wavelengths,
        )
        return mx.concatenate([still, turned], axis=-1)


def _wavelengths(rope_dim: int, theta: float, yarn: Yarn | None) -> list[float]:
    """Radians' inverse per pair of channels."""
    plain = [theta ** (pair / rope_dim) for pair in range(0, rope_dim, 2)]
    if yarn is None:
        return plain
    low = max(math.floor(_turning_pair(yarn.beta_fast, rope_dim, theta, yarn)), 0)
    high = min(math.ceil(_turning_pair(yarn.beta_slow, rope_dim, theta, yarn)), rope_dim - 1)
    span = max(high - low, 0.001)
    stretched = []
    for pair, wavelength in enumerate(plain):
        share = min(max((pair - low) / span, 0.0), 1.0)
        stretched.append(wavelength / (share / yarn.factor + 1.0 - share))
    return stretched


def _turning_pair(turns: float, rope_dim: int, theta: float, yarn: Yarn) -> float:
    """The pair of channels that turns `turns` times over the original context."""
    return rope_dim * math.log(yarn.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(theta))
