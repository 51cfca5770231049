"""Rows in one padded batch that can be fed drafts: what is not accepted is taken back.

Keys and values, a sliding window's too, and caches that know `take_back`, drop each row's last tokens. A recurrent
layer's state cannot be taken back. It is put back to where it stood before the step, and the tokens that were accepted
are owed: they are fed once more at the front of the row's next step, which has no draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, BatchKVCache, BatchRotatingKVCache, KVCache, RotatingKVCache, dynamic_roll

from ..cache.codec import LayerCache, flattened
from .decode_layout import Decided, Forward
from .messages import Batching

_SPARE = 32
"""No step feeds a row more tokens than this."""
_TIDY_STEPS = 64
_KEYS_AND_VALUES = (BatchKVCache, BatchRotatingKVCache)


class RewindingLayout(Decided):
    """A `DecodeLayout` for models whose layers all have such caches."""

    batching = Batching("padded")
    overruns = False

    def __init__(self, model: Forward) -> None:
        self._model = model
        self._batch: list[LayerCache] = []
        self._owed: list[list[int]] = []
        self._fed: list[list[int]] = []
        self._before: list[list[mx.array | None]] = []
        """The recurrent layers' states before the step, layer by layer."""
        self._num_steps = 0

    def join(self, caches: list[LayerCache]) -> None:
        for cache in flattened(caches):
            if hasattr(cache, "take_back"):
                cache.spare = _SPARE
        row = [type(cache).merge([cache]) for cache in caches]
        if not self._owed:
            self._batch = row
        else:
            for batch, added in zip(self._batch, row, strict=True):
                batch.extend(added)
        self._owed.append([])

    def may_draft(self, row: int) -> bool:
        return not self._owed[row]

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        new: Any = token_ids.tolist() if isinstance(token_ids, mx.array) else token_ids
        self._fed = [[*owed, *tokens] for owed, tokens in zip(self._owed, new, strict=True)]
        lengths = [len(tokens) for tokens in self._fed]
        width = max(lengths)
        held = flattened(self._batch)
        self._before = [list(cache.cache) for cache in held if isinstance(cache, ArraysCache)]
        # Padding stands behind a row's tokens, where keys and values need not be told of it: none of them looks there.
        told = [cache for cache in held if not isinstance(cache, _KEYS_AND_VALUES) and min(lengths) < width]
        for cache in told:
            cache.prepare(lengths=lengths, right_padding=[width - length for length in lengths])
        padded = mx.array([[*tokens, *[0] * (width - len(tokens))] for tokens in self._fed])
        logits = self._model(padded, cache=self._batch)
        for cache in told:
            cache.finalize()
        return self.aligned(logits)

    def aligned(self, values: mx.array) -> mx.array:
        """Of something the last step has for each token it fed, [rows, fed, …]: from each row's first new one on."""
        starts = [len(owed) for owed in self._owed]
        if not any(starts):
            return values
        count = max(len(fed) - start for fed, start in zip(self._fed, starts, strict=True))
        places = mx.minimum(mx.array(starts)[:, None] + mx.arange(count), values.shape[1] - 1)
        return values[mx.arange(len(starts))[:, None], places]

    def accept(self, counts: Sequence[int]) -> None:
        kept: list[int] = []
        for row, (fed, count) in enumerate(zip(self._fed, counts, strict=True)):
            held = len(self._owed[row]) + count
            # A recurrent layer has seen all that was fed, or nothing of it.
            repeats = bool(self._before) and held < len(fed)
            self._owed[row] = fed[:held] if repeats else []
            kept.append(0 if repeats else held)
        before = iter(self._before)
        width = max(map(len, self._fed))
        dropped = [width - count for count in kept]
        for cache in flattened(self._batch):
            if isinstance(cache, ArraysCache):
                _put_back(cache, next(before), [count > 0 for count in kept])
            elif isinstance(cache, BatchKVCache):
                _drop(cache, dropped)
            elif isinstance(cache, BatchRotatingKVCache):
                if width > 1:  # a single token, which all rows keep, may have been written anywhere in the window
                    _drop_of_window(cache, dropped)
            else:
                cache.take_back([len(fed) - count for fed, count in zip(self._fed, kept, strict=True)])
        self._before = []
        self._num_steps += 1
        if self._num_steps % _TIDY_STEPS == 0:
            self._keep(range(len(self._owed)))  # lets go of padding that all rows have

    def extract(self, row: int) -> list[LayerCache]:
        caches = [batch.extract(row) for batch in self._batch]
        if self._owed[row]:
            self._model(mx.array([self._owed[row]]), cache=caches)
        return caches

    def leave(self, row: int) -> None:
        rows = [index for index in range(len(self._owed)) if index != row]
        del self._owed[row]
        if rows:
            self._keep(rows)
        else:
            self._batch = []

    def check(self, num_rows: int) -> None:
        assert len(self._owed) == num_rows, f"{len(self._owed)} rows, not {num_rows}"
        assert bool(self._batch) == bool(num_rows), "a batch without rows, or rows without one"
        assert not self._before, "a step has not been accepted"

    def _keep(self, rows: Sequence[int]) -> None:
        for batch in self._batch:
            batch.filter(list(rows))


def can_rewind(caches: Sequence[LayerCache]) -> bool:
    kinds = {type(cache) for cache in flattened(caches) if not hasattr(cache, "take_back")}
    # Owed tokens would take a window below its size, from where mlx-lm's cannot grow again.
    return kinds <= {KVCache, ArraysCache} or kinds <= {KVCache, RotatingKVCache}


def _put_back(cache: LayerCache, before: list[Any], advanced: list[bool]) -> None:
    """Undo the step for the rows that have not advanced."""
    if not all(advanced):
        mask = mx.array(advanced)
        states: list[Any] = cache.cache
        cache.cache = [
            mx.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old) for new, old in zip(states, before, strict=True)
        ]


def _drop(cache: BatchKVCache, counts: Sequence[int]) -> None:
    """Forget each row's last tokens: those of all rows by the end's moving, the rest by the row's."""
    cache.trim(min(counts))
    rest = [count - min(counts) for count in counts]
    if any(rest):
        cache.prepare(right_padding=rest)
        cache.finalize()


def _drop_of_window(cache: LayerCache, counts: Sequence[int]) -> None:
    """The same after a step of several tokens, which a window holds in order and beyond its size."""
    cache._offset -= min(counts)
    cache.offset = cache.offset - mx.array(list(counts))
    end = cache._idx - min(counts)
    rest = mx.array([count - min(counts) for count in counts])
    start = max(0, end - cache.max_size)
    cache.left_padding = cache.left_padding + rest - start
    cache.keys, cache.values = (
        dynamic_roll(array[..., :end, :], rest[:, None], axis=2)[..., start:, :] for array in (cache.keys, cache.values)
    )
    cache._idx = end - start
