"""Which tokens a call brings, row by row of the batch."""

from __future__ import annotations

from dataclasses import dataclass

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
        return mx.array([(offset + shift) // divisor for offset in self.offsets])

    def positions(self, start: int, stop: int) -> mx.array:
        """The positions of the call's tokens from `start` to `stop`: [1 or B, stop - start]."""
        offsets = self.offsets[:1] if self.is_even else self.offsets
        return mx.array(offsets)[:, None] + mx.arange(start, stop)[None]


def take_rows(x: mx.array, starts: list[int], count: int) -> mx.array:
    """Of x [B, R, …] the rows starts[b] … starts[b] + count. Rows outside x are repeats of its edge."""
    first = starts[0]
    if all(start == first for start in starts) and first >= 0 and first + count <= x.shape[1]:
        return x[:, first : first + count]
    rows = mx.clip(mx.array(starts)[:, None] + mx.arange(count)[None], 0, x.shape[1] - 1)
    return x[mx.arange(len(starts))[:, None], rows]
