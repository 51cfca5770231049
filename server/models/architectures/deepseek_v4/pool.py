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
    """A layer cache's three arrays for one compressor; all are None before the first token.

    `kv` and `gate` [B, C, width] end with the newest token; `rows` [B, capacity, D] start with the oldest.
    `spare` is the number of tokens `LayerCache.trim` may take back.
    """

    ratio: int
    overlap: bool
    spare: int
    _arrays: list[mx.array | None]

    @property
    def kv(self) -> mx.array | None:
        return self._arrays[0]

    @property
    def gate(self) -> mx.array | None:
        return self._arrays[1]

    @property
    def rows(self) -> mx.array | None:
        return self._arrays[2]

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
        length = kv.shape[1]
        start = mx.zeros((kv.shape[0], self.lead, kv.shape[2]), kv.dtype)
        old_kv, old_gate = self.kv, self.gate
        kv = mx.concatenate([start if old_kv is None else old_kv, kv], axis=1)
        gate = mx.concatenate([start if old_gate is None else old_gate, gate], axis=1)
        carried = kv.shape[1] - length
        ends = [carried + length for length in span.lengths]
        keep = min(max(self._num_kept(end) for end in span.ends), max(ends))
        self._arrays[:2] = (take_rows(part, [end - keep for end in ends], keep) for part in (kv, gate))
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
        count = rows.shape[1]
        held = self._with_room(rows, max(offset // self.ratio for offset in span.offsets) + count)
        # Not `held[…] = rows`: that would change the array in place, for its copies in other caches too.
        if span.is_even and len(set(span.lengths)) == 1:
            self._arrays[2] = mx.slice_update(held, rows, mx.array([span.offsets[0] // self.ratio]), axes=(1,))
            return
        # Every row writes; one that closes fewer windows has the rest behind its end, where its next ones go.
        firsts = mx.array(span.first(self.ratio)).reshape(-1, 1, 1)
        self._arrays[2] = mx.put_along_axis(held, firsts + mx.arange(count)[:, None], rows, axis=1)

    def filled(self, ends: tuple[int, ...]) -> mx.array | None:
        """The rows of the first `ends` tokens, to the longest batch row; None where there are none."""
        count = max(end // self.ratio for end in ends)
        return None if self.rows is None or count == 0 else self.rows[:, :count]

    def _num_kept(self, end: int) -> int:
        """Carried projections, and those that would be again with up to `spare` tokens taken back."""
        over = max(self.spare - end % self.ratio, 0)
        return self.num_carried(end) + -(-over // self.ratio) * self.ratio

    def _with_room(self, like: mx.array, count: int) -> mx.array:
        """The rows, with place for `count` of them."""
        rows = mx.zeros((like.shape[0], 0, like.shape[2]), like.dtype) if self.rows is None else self.rows
        held = rows.shape[1]
        if count <= held:
            return rows
        growth = max(count - held, held // 8, _GROWTH)
        return mx.concatenate([rows, mx.zeros((rows.shape[0], growth, rows.shape[2]), rows.dtype)], axis=1)
