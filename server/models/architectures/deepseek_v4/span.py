"""Which tokens a call brings, row by row of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Span:
    """Row b holds `offsets[b]` tokens already and gets `lengths[b]` more; what the call has beyond is padding."""

    offsets: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def is_even(self) -> bool:
        """Whether all rows stand at the same position, so that plain slices serve them all."""
        return len(set(self.offsets)) == 1

    @property
    def ends(self) -> tuple[int, ...]:
        return tuple(offset + length for offset, length in zip(self.offsets, self.lengths, strict=True))

    def first(self, divisor: int = 1, shift: int = 0) -> int | mx.array:
        """Every row's offset, plus `shift`, over `divisor`: one number where it is the same for all rows."""
        if self.is_even:
            return (self.offsets[0] + shift) // divisor
        return _numbers(tuple((offset + shift) // divisor for offset in self.offsets))

    def closed(self, start: int, stop: int, ratio: int) -> mx.array:
        """How many windows of `ratio` tokens have closed with each of the call's tokens from `start` to `stop`, which
        are the compressed rows it sees: [1 or B, stop - start]."""
        return _closed(self.offsets[:1] if self.is_even else self.offsets, start, stop, ratio)

    def visible(self, start: int, stop: int, ratio: int, width: int) -> mx.array:
        """Which of `width` compressed rows those tokens see: [1 or B, stop - start, width]."""
        return _visible(self.offsets[:1] if self.is_even else self.offsets, start, stop, ratio, width)


def take_rows(x: mx.array, starts: list[int], count: int) -> mx.array:
    """Of x [B, R, …] the rows starts[b] … starts[b] + count. Rows outside x are repeats of its edge."""
    first = starts[0]
    if all(start == first for start in starts) and first >= 0 and first + count <= x.shape[1]:
        return x[:, first : first + count]
    return x[_indices(tuple(starts), count, x.shape[1])]


# In a step all layers ask for the same few arrays: made anew for each, they would be a third of its launches.


@lru_cache(maxsize=16)
def _numbers(values: tuple[int, ...]) -> mx.array:
    return mx.array(values)


@lru_cache(maxsize=16)
def _closed(offsets: tuple[int, ...], start: int, stop: int, ratio: int) -> mx.array:
    return (mx.array(offsets)[:, None] + mx.arange(start + 1, stop + 1)[None]) // ratio


@lru_cache(maxsize=8)
def _visible(offsets: tuple[int, ...], start: int, stop: int, ratio: int, width: int) -> mx.array:
    return mx.arange(width) < _closed(offsets, start, stop, ratio)[..., None]


@lru_cache(maxsize=16)
def _indices(starts: tuple[int, ...], count: int, height: int) -> tuple[mx.array, mx.array]:
    rows = mx.clip(mx.array(starts)[:, None] + mx.arange(count)[None], 0, height - 1)
    return mx.arange(len(starts))[:, None], rows
