"""One compressor's state: the compressed rows, and the projections that wait for their window to fill.

A window of `ratio` tokens closes into one row. With `overlap` the row also reads the window before, so that
as many projections again are carried across every boundary; what stands before the first token is zeros,
which the compressor masks. How much of the arrays counts follows from the rows' offsets alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .span import Span, take_rows

_GROWTH = 256


@dataclass(slots=True)
class Pool:
    """`kv` and `gate` [B, C, width] end with the newest token; `rows` [B, capacity, D] start with the oldest.

    The arrays are None before the first token. `spare` is the number of tokens `LayerCache.trim` may take back.
    """

    ratio: int
    overlap: bool
    spare: int = 0
    kv: mx.array | None = None
    gate: mx.array | None = None
    rows: mx.array | None = None

    @property
    def lead(self) -> int:
        """Projections of the window before that a row reads."""
        return self.ratio if self.overlap else 0

    def num_carried(self, offset: int) -> int:
        """Projections that later rows still read after `offset` tokens."""
        return self.lead + offset % self.ratio

    def push(self, kv: mx.array, gate: mx.array, span: Span) -> tuple[mx.array, mx.array] | None:
        """Take in the projections of a call's tokens; what the windows that now close read, or None.

        Both results are [B, lead + k * ratio, width] for the k windows that close in the row with most.
        """
        if self.kv is None or self.gate is None:
            start = mx.zeros((kv.shape[0], self.lead, kv.shape[2]), kv.dtype)
            self.kv, self.gate = start, start.astype(gate.dtype)
        carried = self.kv.shape[1]
        kv, gate = mx.concatenate([self.kv, kv], axis=1), mx.concatenate([self.gate, gate], axis=1)
        ends = [carried + length for length in span.lengths]
        keep = min(max(self._num_kept(end) for end in span.ends), max(ends))
        self.kv = take_rows(kv, [end - keep for end in ends], keep)
        self.gate = take_rows(gate, [end - keep for end in ends], keep)
        closing = self.num_closing(span)
        if closing == 0:
            return None
        starts = [carried - self.num_carried(offset) for offset in span.offsets]
        count = self.lead + closing * self.ratio
        return take_rows(kv, starts, count), take_rows(gate, starts, count)

    def num_closing(self, span: Span) -> int:
        """Windows that close with the call's tokens, in the row with most."""
        pairs = zip(span.offsets, span.ends, strict=True)
        return max(end // self.ratio - offset // self.ratio for offset, end in pairs)

    def append(self, rows: mx.array, span: Span) -> None:
        """Store new rows [B, k, D]; in a batch row with fewer than k closing windows the first ones count."""
        self._reserve(rows, max(end // self.ratio for end in span.ends))
        assert self.rows is not None
        # Not `self.rows[…] = rows`: that would change the array in place, for its copies in other caches too.
        if span.is_even and len(set(span.lengths)) == 1:
            self.rows = mx.slice_update(self.rows, rows, mx.array([span.offsets[0] // self.ratio]), axes=(1,))
            return
        for index, (offset, end) in enumerate(zip(span.offsets, span.ends, strict=True)):
            first, last = offset // self.ratio, end // self.ratio
            if last > first:
                own = rows[index : index + 1, : last - first]
                self.rows = mx.slice_update(self.rows, own, mx.array([index, first]), axes=(0, 1))

    def filled(self, ends: tuple[int, ...]) -> mx.array | None:
        """The rows of the first `ends` tokens, to the longest batch row; None where there are none."""
        count = max(end // self.ratio for end in ends)
        return None if self.rows is None or count == 0 else self.rows[:, :count]

    def _num_kept(self, end: int) -> int:
        """Carried projections, and those that would be again with up to `spare` tokens taken back."""
        over = max(self.spare - end % self.ratio, 0)
        return self.num_carried(end) + -(-over // self.ratio) * self.ratio

    def _reserve(self, like: mx.array, count: int) -> None:
        held = 0 if self.rows is None else self.rows.shape[1]
        if count <= held:
            return
        growth = max(count - held, held // 8, _GROWTH)
        more = mx.zeros((like.shape[0], growth, like.shape[2]), like.dtype)
        self.rows = more if self.rows is None else mx.concatenate([self.rows, more], axis=1)
