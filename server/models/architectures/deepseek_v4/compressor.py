"""Tokens to compressed rows: a learned, gated mean over each window."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .config import OVERLAPPING_RATIO, ModelArgs
from .pool import Pool
from .rotary import Rotary
from .span import Span


class Compressor(nn.Module):
    """Closes windows of `ratio` tokens into rows of `dim` channels.

    At ratio 4 windows overlap: each token has two projections side by side, the first for the row of the
    next window, the second for the row of its own.
    """

    def __init__(self, args: ModelArgs, ratio: int, dim: int) -> None:
        super().__init__()
        self._ratio, self._dim = ratio, dim
        width = 2 * dim if ratio == OVERLAPPING_RATIO else dim
        self.wkv = nn.Linear(args.hidden_size, width, bias=False)
        self.wgate = nn.Linear(args.hidden_size, width, bias=False)
        self.ape = mx.zeros((ratio, width))
        self.norm = nn.RMSNorm(dim, eps=args.rms_norm_eps)
        self.rotary = Rotary.of_layer(args, ratio)

    def __call__(self, x: mx.array, pool: Pool, span: Span) -> mx.array | None:
        """Take in x [B, L, hidden]; all the rows there are now [B, P, dim], None while there are none."""
        windows = pool.push(self.wkv(x), self.wgate(x), span)
        if windows is not None:
            kv, gate = (part.astype(mx.float32) for part in windows)
            rows = self._overlapping(kv, gate, span) if pool.overlap else self._mean(*self._split(kv, gate))
            rows = self.norm(rows.astype(x.dtype))
            rows = self.rotary(rows[:, None], span.first(self._ratio), stride=self._ratio)[:, 0]
            pool.append(rows, span)
        return pool.filled(span.ends)

    def _split(self, kv: mx.array, gate: mx.array) -> tuple[mx.array, mx.array]:
        """[B, k * ratio, width] → [B, k, ratio, width], with each place's bias on the gate."""
        shape = (kv.shape[0], -1, self._ratio, kv.shape[-1])
        return kv.reshape(shape), gate.reshape(shape) + self.ape.astype(mx.float32)

    def _overlapping(self, kv: mx.array, gate: mx.array, span: Span) -> mx.array:
        ratio, dim = self._ratio, self._dim
        kv_before, gate_before = self._split(kv[:, :-ratio], gate[:, :-ratio])
        kv_own, gate_own = self._split(kv[:, ratio:], gate[:, ratio:])
        first = mx.array([offset // ratio for offset in span.offsets])
        is_first = (first[:, None] + mx.arange(kv_own.shape[1])[None]) == 0
        gate_before = mx.where(is_first[..., None, None], -mx.inf, gate_before[..., :dim])
        return self._mean(
            mx.concatenate([kv_before[..., :dim], kv_own[..., dim:]], axis=2),
            mx.concatenate([gate_before, gate_own[..., dim:]], axis=2),
        )

    @staticmethod
    def _mean(kv: mx.array, gate: mx.array) -> mx.array:
        return (kv * mx.softmax(gate, axis=2)).sum(axis=2)
