"""Several short prompts in one pass, so that the weights are read once for all of them.

Only attention, where a prompt's own length and position matter, runs prompt by prompt, each over its own cache. What
stands behind a shorter prompt's end in the pass is not looked at by anyone.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..cache.codec import LayerCache
from .attention_route import OwnAttention, attention_modules, routed
from .decode_layout import Forward
from .last_row import LastRow


class PromptRows:
    """For models whose layers all keep a plain `KVCache` and whose rows of different lengths are right together."""

    def __init__(self, model: Forward, last_row: LastRow) -> None:
        self._last_row = last_row
        self._modules = attention_modules(model)

    def logits(self, pieces: Sequence[Sequence[int]], caches: Sequence[Sequence[LayerCache]]) -> mx.array:
        """Feed each prompt its piece: the logits after the last token of each, shape [prompts, vocabulary]."""
        lengths = [len(piece) for piece in pieces]
        offset = mx.array([layers[0].offset for layers in caches])
        rows = [_LayerRows(list(layer), lengths, offset) for layer in zip(*caches, strict=True)]
        with routed(self._modules):
            return self._last_row.each(pieces, rows)


class _LayerRows(OwnAttention):
    """One layer's caches of all prompts."""

    def __init__(self, caches: list[LayerCache], lengths: list[int], offset: mx.array) -> None:
        self.offset = offset
        self._caches = caches
        self._lengths = lengths
        self._held: list[tuple[mx.array, mx.array]] = []

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self._held = [
            cache.update_and_fetch(keys[row : row + 1, :, :length], values[row : row + 1, :, :length])
            for row, (cache, length) in enumerate(zip(self._caches, self._lengths, strict=True))
        ]
        return keys, values  # `attend` reads what the caches hold instead

    def attend(self, queries: mx.array, scale: float, sinks: mx.array | None) -> mx.array:
        outputs = []
        for row, (length, (keys, values)) in enumerate(zip(self._lengths, self._held, strict=True)):
            own = queries[row : row + 1, :, :length]
            mask = "causal" if length > 1 else None
            output = mx.fast.scaled_dot_product_attention(own, keys, values, scale=scale, mask=mask, sinks=sinks)
            outputs.append(mx.pad(output, [(0, 0), (0, 0), (0, queries.shape[2] - length), (0, 0)]))
        return mx.concatenate(outputs)
