"""What one layer remembers of its sequences.

    state     (window, kv, gate[, index kv, index gate], rows[, index rows])
    window    the last `window - 1` tokens' keys
    kv, gate  projections whose window of `ratio` tokens has not filled, and for ratio 4 those of the window before
    rows      one for every `ratio` tokens: the only part that grows

All but the rows is right-aligned: the last entry is the newest token's. So sequences of different lengths
stand side by side in a batch, with nothing but their offsets to tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from .config import OVERLAPPING_RATIO
from .pool import Pool
from .span import Span, take_rows


class LayerCache:
    """The cache of one layer for a batch of sequences, with the methods mlx-lm's generators call.

    A call of the model reads and advances it. Arrays are replaced, never written where another cache could
    see it, so that `copy` is cheap and a snapshot stays what it was.
    """

    def __init__(self, window: int, ratio: int, *, batch: int = 1, spare: int = 0) -> None:
        self.ratio, self.spare = ratio, spare
        self.offsets = (0,) * batch
        self.pools = tuple(_pools(ratio, spare))
        self._kept = window - 1
        self._window: mx.array | None = None
        self._expected: tuple[int, ...] | None = None
        self._trimmable = 0

    @property
    def row_strides(self) -> tuple[int, ...]:
        """Tokens a row stands for, for each of the state's last arrays; those before them do not grow."""
        return (self.ratio,) * len(self.pools)

    @property
    def offset(self) -> int:
        """Tokens held, of the longest sequence."""
        return max(self.offsets, default=0)

    def next_span(self, length: int) -> Span:
        """What a call with `length` tokens in every row brings."""
        if self._expected is None:
            return Span(self.offsets, (length,) * len(self.offsets))
        return Span(self.offsets, tuple(min(length, left) for left in self._expected))

    def extend_window(self, kv: mx.array, span: Span) -> mx.array:
        """Take in kv [B, L, D]; the window before it and it, [B, held + L, D]."""
        window = kv if self._window is None else mx.concatenate([self._window, kv], axis=1)
        held = window.shape[1] - kv.shape[1]
        ends = [held + length for length in span.lengths]
        keep = min(self._kept + self.spare, max(ends))
        self._window = take_rows(window, [end - keep for end in ends], keep)
        return window

    def advance(self, span: Span) -> None:
        """Close a call: its tokens are now held."""
        self.offsets = span.ends
        self._trimmable = min(self._trimmable + min(span.lengths), self.spare)
        if self._expected is not None:
            self._expected = tuple(left - got for left, got in zip(self._expected, span.lengths, strict=True))

    @property
    def state(self) -> tuple[mx.array, ...]:
        """Everything but `meta_state`, the same whatever calls led here; empty before the first token."""
        if self._window is None:
            return ()
        carried = [max(pool.num_carried(offset) for offset in self.offsets) for pool in self.pools]
        pending = [
            _last(array, count)
            for pool, count in zip(self.pools, carried, strict=True)
            for array in (pool.kv, pool.gate)
        ]
        return (_last(self._window, min(self._kept, self.offset)), *pending, *self._rows())

    @state.setter
    def state(self, state: Sequence[mx.array]) -> None:
        self._trimmable, self._expected, self._window = 0, None, None
        self.pools = tuple(_pools(self.ratio, self.spare))
        if not state:
            return
        if len(state) != 1 + 3 * len(self.pools):
            raise ValueError(f"a state of {len(state)} arrays is none of a layer with ratio {self.ratio}")
        self._window, *rest = state
        for index, pool in enumerate(self.pools):
            pool.kv, pool.gate = rest[2 * index : 2 * index + 2]
            pool.rows = rest[2 * len(self.pools) + index]

    @property
    def meta_state(self) -> tuple[str, ...]:
        """The window, the ratio, and every sequence's length."""
        return (str(self._kept + 1), str(self.ratio), *(str(offset) for offset in self.offsets))

    @meta_state.setter
    def meta_state(self, meta_state: Sequence[str]) -> None:
        window, self.ratio, *offsets = (int(value) for value in meta_state)
        self._kept, self.offsets = window - 1, tuple(offsets)

    @classmethod
    def from_state(cls, state: Sequence[mx.array], meta_state: Sequence[str]) -> LayerCache:
        """The cache whose `state` and `meta_state` these were."""
        cache = cls(int(meta_state[0]), int(meta_state[1]))
        cache.meta_state = meta_state
        cache.state = state
        return cache

    def copy(self) -> LayerCache:
        """The same, independent from now on; nothing is copied until one of the two moves on."""
        other = LayerCache(self._kept + 1, self.ratio, spare=self.spare)
        other.offsets, other._window, other._expected = self.offsets, self._window, self._expected
        other._trimmable = self._trimmable
        for pool, source in zip(other.pools, self.pools, strict=True):
            pool.kv, pool.gate, pool.rows = source.kv, source.gate, source.rows
        return other

    def trim(self, count: int) -> int:
        """Take back the last `count` tokens of every sequence, at most those `spare` allows; how many it took."""
        count = min(count, self._trimmable)
        if count:
            assert self._window is not None
            self._window = self._window[:, :-count]
            for pool in self.pools:
                assert pool.kv is not None
                assert pool.gate is not None
                pool.kv, pool.gate = pool.kv[:, :-count], pool.gate[:, :-count]
            self.offsets = tuple(offset - count for offset in self.offsets)
            self._trimmable -= count
        return count

    def is_trimmable(self) -> bool:
        return self._trimmable > 0

    @classmethod
    def merge(cls, caches: Sequence[LayerCache]) -> LayerCache:
        """All the caches' sequences in one, in order."""
        first = caches[0]
        merged = cls(first._kept + 1, first.ratio, spare=first.spare)
        merged.offsets = tuple(offset for cache in caches for offset in cache.offsets)
        sizes = [len(cache.offsets) for cache in caches]
        merged._window = _stacked([cache._window for cache in caches], sizes, newest_last=True)
        for index, pool in enumerate(merged.pools):
            pools = [cache.pools[index] for cache in caches]
            pool.kv = _stacked([source.kv for source in pools], sizes, newest_last=True)
            pool.gate = _stacked([source.gate for source in pools], sizes, newest_last=True)
            pool.rows = _stacked([source.rows for source in pools], sizes, newest_last=False)
        return merged

    def extend(self, other: LayerCache) -> None:
        """Put the other cache's sequences behind these."""
        self._become(LayerCache.merge([self, other]))

    def filter(self, batch_indices: Sequence[int]) -> None:
        """Keep only these sequences, in this order."""
        self._become(self._picked([int(index) for index in batch_indices]))

    def extract(self, index: int) -> LayerCache:
        """One sequence as a cache of its own, without what only the longer ones need."""
        picked = self._picked([index])
        return LayerCache.from_state(picked.state, picked.meta_state)

    def prepare(
        self,
        *,
        lengths: Sequence[int] | None = None,
        right_padding: Sequence[int] | None = None,
        left_padding: Sequence[int] | None = None,
    ) -> None:
        """The next calls bring `lengths[b]` tokens of sequence b, and padding after them."""
        if left_padding is not None and max(left_padding) > 0:
            raise ValueError("DeepSeek V4's cache takes padding on the right only")
        if lengths is not None and (right_padding is None or max(right_padding) > 0):
            self._expected = tuple(int(length) for length in lengths)

    def finalize(self) -> None:
        """The padded calls are over."""
        self._expected = None

    def size(self) -> int:
        return self.offset

    def empty(self) -> bool:
        return self.offset == 0

    @property
    def nbytes(self) -> int:
        arrays = [self._window, *(array for pool in self.pools for array in (pool.kv, pool.gate, pool.rows))]
        return sum(array.nbytes for array in arrays if array is not None)

    def _rows(self) -> list[mx.array]:
        """Each pool's filled rows; an array without rows where no window has closed."""
        found: list[mx.array] = []
        for pool in self.pools:
            assert pool.kv is not None
            rows = pool.filled(self.offsets)
            dim = pool.kv.shape[2] // (2 if pool.overlap else 1)
            found.append(mx.zeros((len(self.offsets), 0, dim), pool.kv.dtype) if rows is None else rows)
        return found

    def _picked(self, indices: list[int]) -> LayerCache:
        picked = self.copy()
        rows = mx.array(indices)
        picked.offsets = tuple(self.offsets[index] for index in indices)
        picked._expected = None if self._expected is None else tuple(self._expected[index] for index in indices)
        picked._window = None if self._window is None else self._window[rows]
        for pool in picked.pools:
            pool.kv, pool.gate, pool.rows = (
                None if array is None else array[rows] for array in (pool.kv, pool.gate, pool.rows)
            )
        return picked

    def _become(self, other: LayerCache) -> None:
        self.__dict__.update(other.__dict__)


def _pools(ratio: int, spare: int) -> list[Pool]:
    if ratio == OVERLAPPING_RATIO:
        return [Pool(ratio, overlap=True, spare=spare), Pool(ratio, overlap=True, spare=spare)]
    return [Pool(ratio, overlap=False, spare=spare)] if ratio else []


def _last(array: mx.array | None, count: int) -> mx.array:
    assert array is not None
    return array[:, array.shape[1] - count :]


def _stacked(arrays: Sequence[mx.array | None], sizes: Sequence[int], *, newest_last: bool) -> mx.array | None:
    """Arrays [B, R, D] one behind the other along B, with zeros where one has fewer rows; None for an empty one."""
    known = [array for array in arrays if array is not None]
    if not known:
        return None
    count, dim, dtype = max(array.shape[1] for array in known), known[0].shape[2], known[0].dtype
    padded = []
    for array, size in zip(arrays, sizes, strict=True):
        full = mx.zeros((size, 0, dim), dtype) if array is None else array
        missing = count - full.shape[1]
        padded.append(mx.pad(full, [(0, 0), (missing, 0) if newest_last else (0, missing), (0, 0)]))
    return mx.concatenate(padded, axis=0)
