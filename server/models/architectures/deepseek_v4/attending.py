"""One softmax over keys that all queries of a block share and keys each query has for itself."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Keys:
    """`rows` are keys and values at once: shared ones [B, K, D], picked ones [B, L, K, D].

    `mask` says which of them a query sees: [1 or B, L, K] of bool, None for all.
    """

    rows: mx.array
    mask: mx.array | None = None

    def seen(self, scores: mx.array) -> mx.array:
        """Scores [B, H, L, K] with the unseen ones out of the softmax."""
        return scores if self.mask is None else mx.where(self.mask[:, None], scores, -mx.inf)


def attend(queries: mx.array, shared: Keys, picked: Keys | None, sinks: mx.array) -> mx.array:
    """Attention of queries [B, H, L, D] with a sink logit for each head; the result is [B, H, L, D] in float32.

    All in float32: V4's heads of 512 channels lose too much of their scores in a half type.
    """
    batch, heads, length, dim = queries.shape
    queries = queries.astype(mx.float32) * dim**-0.5
    rows = shared.rows.astype(mx.float32)
    scores = queries.reshape(batch, heads * length, dim) @ rows.swapaxes(-1, -2)
    parts = [shared.seen(scores.reshape(batch, heads, length, -1))]
    own = None if picked is None else picked.rows.astype(mx.float32)
    if picked is not None and own is not None:
        scores = queries.swapaxes(1, 2) @ own.swapaxes(-1, -2)
        parts.append(picked.seen(scores.swapaxes(1, 2)))
    sink = mx.broadcast_to(sinks.astype(mx.float32).reshape(1, heads, 1, 1), (batch, heads, length, 1))
    weights = mx.softmax(mx.concatenate([*parts, sink], axis=-1), axis=-1)
    num_shared = rows.shape[1]
    result = weights[..., :num_shared].reshape(batch, heads * length, num_shared) @ rows
    result = result.reshape(batch, heads, length, dim)
    if own is not None:
        result = result + (weights[..., num_shared:-1].swapaxes(1, 2) @ own).swapaxes(1, 2)
    return result
