"""The lightning indexer: which compressed rows a query attends to."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .compressor import Compressor
from .config import OVERLAPPING_RATIO, ModelArgs
from .pool import Pool
from .rotary import Rotary
from .span import Span

_SCORES_AT_ONCE = 1 << 25
"""Scores (heads by queries by rows) held at a time (128 MiB in float32)."""


class Indexer(nn.Module):
    """Scores every row for every query with small heads of its own and names the best `index_topk`."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self._heads, self._dim, self._top_k = args.index_n_heads, args.index_head_dim, args.index_topk
        self.wq_b = nn.Linear(args.q_lora_rank, self._heads * self._dim, bias=False)
        self.weights_proj = nn.Linear(args.hidden_size, self._heads, bias=False)
        self.compressor = Compressor(args, OVERLAPPING_RATIO, self._dim)
        self.rotary = Rotary.of_layer(args, OVERLAPPING_RATIO)

    def take_in(self, x: mx.array, pool: Pool, span: Span) -> mx.array | None:
        """Take in x; the keys to choose by [B, P, D], None where every row is read anyway."""
        keys = self.compressor(x, pool, span)
        return None if keys is None or keys.shape[1] <= self._top_k else keys

    def __call__(
        self, x: mx.array, q_low: mx.array, keys: mx.array, span: Span, start: int
    ) -> tuple[mx.array, mx.array]:
        """Rows for the call's queries from `start` on: indices [B, L, index_topk], and which of them count."""
        step = max(_SCORES_AT_ONCE // (self._heads * keys.shape[1] * keys.shape[0]), 1)
        found: list[mx.array] = []
        for low in range(0, x.shape[1], step):
            piece = slice(low, min(low + step, x.shape[1]))
            # One piece waits for the other: all at once they would fill the memory this loop saves.
            now = mx.depends(x[:, piece], found[-1]) if found else x[:, piece]
            found.append(self._best(now, q_low[:, piece], keys, span, start + low))
        chosen = found[0] if len(found) == 1 else mx.concatenate(found, axis=1)
        return chosen, chosen < span.closed(start, start + x.shape[1], OVERLAPPING_RATIO)[..., None]

    def _best(self, x: mx.array, q_low: mx.array, keys: mx.array, span: Span, start: int) -> mx.array:
        batch, length, _ = x.shape
        queries = self.wq_b(q_low).reshape(batch, length, self._heads, self._dim).transpose(0, 2, 1, 3)
        queries = self.rotary(queries, span.first(shift=start)).astype(mx.float32)
        # Query by query with all its heads together, so that the sum over heads is a product too.
        flat = queries.transpose(0, 2, 1, 3).reshape(batch, length * self._heads, self._dim)
        scores = mx.maximum(flat @ keys.astype(mx.float32).swapaxes(-1, -2), 0)
        weights = self.weights_proj(x).astype(mx.float32) * (self._heads**-0.5 * self._dim**-0.5)
        scores = (weights[:, :, None] @ scores.reshape(batch, length, self._heads, -1)).squeeze(2)
        scores = mx.where(span.visible(start, start + length, OVERLAPPING_RATIO, keys.shape[1]), scores, -mx.inf)
        return mx.argpartition(-scores, self._top_k - 1, axis=-1)[..., : self._top_k]
