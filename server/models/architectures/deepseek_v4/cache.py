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
        self._kept = window - 1
        # Plain attributes, lists and arrays: what copies a cache attribute by attribute finds every array.
        self._window: mx.array | None = None
        self._pooled: list[list[mx.array | None]] = [[None, None, None] for _ in range(_num_pools(ratio))]
        self._expected: tuple[int, ...] | None = None
        self._trimmable = (0,) * batch

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The compressor's pool, and the indexer's."""
        overlap = self.ratio == OVERLAPPING_RATIO
        return tuple(Pool(self.ratio, overlap, self.spare, arrays) for arrays in self._pooled)

    @property
    def row_strides(self) -> tuple[int, ...]:
        """Tokens a row stands for, for each of the state's last arrays; those before them do not grow."""
        return (self.ratio,) * len(self._pooled)

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
        pairs = zip(self._trimmable, span.lengths, strict=True)
        self._trimmable = tuple(min(before + length, self.spare) for before, length in pairs)
        if self._expected is not None:
            self._expected = tuple(left - got for left, got in zip(self._expected, span.lengths, strict=True))

    @property
    def state(self) -> tuple[mx.array, ...]:
        """Everything but `meta_state`, the same whatever calls led here; empty before the first token."""
        if self._window is None:
            return ()
        pending: list[mx.array] = []
        for pool in self.pools:
            count = max(pool.num_carried(offset) for offset in self.offsets)
            pending += [_last(pool.kv, count), _last(pool.gate, count)]
        return (_last(self._window, min(self._kept, self.offset)), *pending, *self._rows())

    @state.setter
    def state(self, state: Sequence[mx.array]) -> None:
        count = _num_pools(self.ratio)
        if len(state) not in (0, 1 + 3 * count):
            raise ValueError(f"a state of {len(state)} arrays is none of a layer with ratio {self.ratio}")
        self._trimmable, self._expected = (0,) * len(self.offsets), None
        self._window, *rest = state or (None,) * (1 + 3 * count)
        self._pooled = [[*rest[2 * index : 2 * index + 2], rest[2 * count + index]] for index in range(count)]

    @property
    def meta_state(self) -> tuple[str, ...]:
        """The window, the ratio, the spare tokens, and every sequence's length."""
        return tuple(str(number) for number in (self._kept + 1, self.ratio, self.spare, *self.offsets))

    @meta_state.setter
    def meta_state(self, meta_state: Sequence[str]) -> None:
        window, self.ratio, self.spare, *offsets = (int(value) for value in meta_state)
        self._kept, self.offsets, self._trimmable = window - 1, tuple(offsets), (0,) * len(offsets)

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
        other._pooled = [list(arrays) for arrays in self._pooled]
        return other

    def trim(self, count: int) -> int:
        """Take back the last `count` tokens of every sequence, at most those `spare` allows; how many it took."""
        count = min(count, *self._trimmable)
        self.take_back([count] * len(self.offsets))
        return count

    def take_back(self, counts: Sequence[int]) -> None:
        """Take back the last `counts[b]` tokens of sequence b, no more than `spare` allows."""
        if not any(counts):
            return
        assert self._window is not None
        assert all(count <= most for count, most in zip(counts, self._trimmable, strict=True))
        back = [-count for count in counts]
        self._window = take_rows(self._window, back, self._window.shape[1])
        for arrays in self._pooled:
            arrays[:2] = (None if array is None else take_rows(array, back, array.shape[1]) for array in arrays[:2])
        self.offsets = tuple(offset - count for offset, count in zip(self.offsets, counts, strict=True))
        self._trimmable = tuple(most - count for most, count in zip(self._trimmable, counts, strict=True))

    def is_trimmable(self) -> bool:
        return min(self._trimmable) > 0

    @classmethod
    def merge(cls, caches: Sequence[LayerCache]) -> LayerCache:
        """All the caches' sequences in one, in order."""
        first = caches[0]
        merged = cls(first._kept + 1, first.ratio, spare=first.spare)
        merged.offsets = tuple(offset for cache in caches for offset in cache.offsets)
        merged._trimmable = tuple(most for cache in caches for most in cache._trimmable)
        sizes = [len(cache.offsets) for cache in caches]
        merged._window = _stacked([cache._window for cache in caches], sizes, newest_last=True)
        for index, arrays in enumerate(merged._pooled):
            for kind in range(3):
                sources = [cache._pooled[index][kind] for cache in caches]
                arrays[kind] = _stacked(sources, sizes, newest_last=kind < 2)
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
        picked.spare = 0
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
        arrays = [self._window, *(array for arrays in self._pooled for array in arrays)]
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
        picked._trimmable = tuple(self._trimmable[index] for index in indices)
        picked._expected = None if self._expected is None else tuple(self._expected[index] for index in indices)
        picked._window = None if self._window is None else self._window[rows]
        picked._pooled = [[None if array is None else array[rows] for array in arrays] for arrays in self._pooled]
        return picked

    def _become(self, other: LayerCache) -> None:
        self.__dict__.update(other.__dict__)


def _num_pools(ratio: int) -> int:
    """One for the compressor, one for the indexer."""
    return {0: 0, OVERLAPPING_RATIO: 2}.get(ratio, 1)


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
