"""V4's attention: a window of recent tokens, and compressed rows of all that went before.

One row is key and value for all heads. Queries are worked off in blocks, each from its projection to its
output, so that memory grows with the tokens, not with their square.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.mla import MultiLinear

from .attending import Keys, attend
from .cache import LayerCache
from .compressor import Compressor
from .config import OVERLAPPING_RATIO, ModelArgs
from .indexer import Indexer
from .rotary import Rotary
from .span import Span

_BLOCK = 256


class Attention(nn.Module):
    """The attention of a layer with ratio 0 (window only), 4 (rows chosen by the indexer) or 128 (all rows)."""

    def __init__(self, args: ModelArgs, ratio: int) -> None:
        super().__init__()
        heads, dim = args.num_attention_heads, args.head_dim
        self._ratio, self._heads, self._dim = ratio, heads, dim
        self._window, self._groups, self._epsilon = args.sliding_window, args.o_groups, args.rms_norm_eps
        self.wq_a = nn.Linear(args.hidden_size, args.q_lora_rank, bias=False)
        self.q_norm = nn.RMSNorm(args.q_lora_rank, eps=args.rms_norm_eps)
        self.wq_b = nn.Linear(args.q_lora_rank, heads * dim, bias=False)
        self.wkv = nn.Linear(args.hidden_size, dim, bias=False)
        self.kv_norm = nn.RMSNorm(dim, eps=args.rms_norm_eps)
        self.wo_a = MultiLinear(heads * dim // args.o_groups, args.o_lora_rank, args.o_groups)
        self.wo_b = nn.Linear(args.o_groups * args.o_lora_rank, args.hidden_size, bias=False)
        self.attn_sink = mx.zeros((heads,))
        self.rotary = Rotary.of_layer(args, ratio)
        if ratio:
            self.compressor = Compressor(args, ratio, dim)
        if ratio == OVERLAPPING_RATIO:
            self.indexer = Indexer(args)

    def __call__(self, x: mx.array, cache: LayerCache) -> mx.array:
        """Attend from x [B, L, hidden] to it and all that `cache` holds; the cache then holds x too."""
        span = cache.next_span(x.shape[1])
        q_low = self.q_norm(self.wq_a(x))
        kv = self.rotary(self.kv_norm(self.wkv(x))[:, None], span.first())[:, 0]
        window = cache.extend_window(kv, span)
        rows = index_keys = None
        if self._ratio:
            rows = self.compressor(x, cache.pools[0], span)
        if self._ratio == OVERLAPPING_RATIO:
            index_keys = self.indexer.take_in(x, cache.pools[1], span)
        outputs: list[mx.array] = []
        for start in range(0, x.shape[1], _BLOCK):
            block = slice(start, min(start + _BLOCK, x.shape[1]))
            # One block waits for the other: all at once they would fill the memory this loop saves.
            now = mx.depends(q_low[:, block], outputs[-1]) if outputs else q_low[:, block]
            recent = self._recent(window, span, block, x.shape[1])
            outputs.append(self._block(x[:, block], now, recent, rows, index_keys, span, start))
        cache.advance(span)
        output = outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=1)
        # What waits for its window is computed now: put off, 128 steps of it would come in the one that closes it.
        waiting = [array for pool in cache.pools for array in (pool.kv, pool.gate) if array is not None]
        return mx.depends(output, waiting) if waiting else output

    def keep_share(self, rank: int, size: int) -> None:
        """Go on with one of `size` equal shares of the heads, whose projections have been cut."""
        self._heads //= size
        self._groups //= size
        self.attn_sink = mx.contiguous(self.attn_sink[rank * self._heads : (rank + 1) * self._heads])

    def _block(
        self,
        x: mx.array,
        q_low: mx.array,
        recent: Keys,
        rows: mx.array | None,
        index_keys: mx.array | None,
        span: Span,
        start: int,
    ) -> mx.array:
        shared, picked = recent, None
        if rows is not None and index_keys is not None:
            chosen, counts = self.indexer(x, q_low, index_keys, span, start)
            picked = Keys(rows[mx.arange(rows.shape[0])[:, None, None], chosen], counts)
        elif rows is not None:
            shared = _joined(recent, self._earlier(rows, span, start, x.shape[1]))
        if picked is not None and x.shape[1] == 1:
            shared, picked = _joined(recent, Keys(picked.rows[:, 0], picked.mask)), None
        output = attend(self._queries(q_low, span, start), shared, picked, self.attn_sink).astype(x.dtype)
        return self._project(self.rotary(output, span.first(shift=start), inverse=True))

    def _queries(self, q_low: mx.array, span: Span, start: int) -> mx.array:
        batch, length, _ = q_low.shape
        queries = self.wq_b(q_low).reshape(batch, length, self._heads, self._dim).transpose(0, 2, 1, 3)
        return self.rotary(mx.fast.rms_norm(queries, None, self._epsilon), span.first(shift=start))

    def _project(self, output: mx.array) -> mx.array:
        """[B, H, L, D] → [B, L, hidden], first each group of heads by itself."""
        batch, _, length, _ = output.shape
        grouped = output.reshape(batch, self._groups, -1, length, self._dim).transpose(0, 1, 3, 2, 4)
        low = self.wo_a(grouped.reshape(batch, self._groups, length, -1))
        return self.wo_b(low.transpose(0, 2, 1, 3).reshape(batch, length, -1))

    def _recent(self, window: mx.array, span: Span, block: slice, length: int) -> Keys:
        """The window rows that the queries of a block see; `window` ends with the call's `length` tokens."""
        held = window.shape[1] - length
        low = max(held + block.start - self._window + 1, 0)
        rows = window[:, low : held + block.stop]
        missing = [held - offset for offset in span.offsets]
        if block.stop - block.start == 1 and max(missing) <= 0:
            return Keys(rows)
        slots = mx.arange(low, held + block.stop)
        own = (held + mx.arange(block.start, block.stop))[:, None]
        mask = ((slots <= own) & (slots > own - self._window))[None]
        if max(missing) > 0:
            mask = mask & (slots >= mx.array(missing)[:, None, None])
        return Keys(rows, mask)

    def _earlier(self, rows: mx.array, span: Span, start: int, length: int) -> Keys:
        """All compressed rows; a query sees those whose window has closed."""
        if length == 1 and span.is_even:
            return Keys(rows)
        return Keys(rows, span.visible(start, start + length, self._ratio, rows.shape[1]))


def _joined(left: Keys, right: Keys) -> Keys:
    rows = mx.concatenate([left.rows, right.rows.astype(left.rows.dtype)], axis=1)
    if left.mask is None and right.mask is None:
        return Keys(rows)
    if left.mask is None and right.mask is not None:
        return Keys(rows, mx.pad(right.mask, [(0, 0), (0, 0), (left.rows.shape[1], 0)], constant_values=mx.array(True)))
    masks = [mx.ones((1, 1, 1), mx.bool_) if keys.mask is None else keys.mask for keys in (left, right)]
    batch, length = (max(mask.shape[axis] for mask in masks) for axis in (0, 1))
    widths = (left.rows.shape[1], right.rows.shape[1])
    full = [mx.broadcast_to(mask, (batch, length, width)) for mask, width in zip(masks, widths, strict=True)]
    return Keys(rows, mx.concatenate(full, axis=-1))
