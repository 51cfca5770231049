"""Blocks out of, and back into, mlx-lm's per-layer cache objects of one sequence (batch size 1).

Two kinds of layer state:
- rows: one row a token along axis -2 (full attention's keys and values, MLA latents). A block holds the
  rows of its tokens, and the first n rows of it serve n tokens.
- the rest (rotating windows, recurrent states): only the whole state at a position can be kept, so a
  block of such a model can be resumed from only where a snapshot was taken.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import CacheList, KVCache

LayerCache = Any
"""One of mlx-lm's cache objects; they share no base worth typing against."""


@dataclass(frozen=True, slots=True)
class BlockPayload:
    """`rows[i]` are the arrays of the i-th row layer, `state` the snapshot of all other layers, if taken."""

    rows: tuple[tuple[mx.array, mx.array], ...]
    state: tuple[LayerCache, ...] | None
    nbytes: int
    divisible: bool

    @property
    def resumable(self) -> bool:
        return self.divisible or self.state is not None


class CacheCodec:
    """Knows which layers of a model keep rows. `make_cache` makes the model's empty per-layer caches."""

    def __init__(self, make_cache: Callable[[], list[LayerCache]]) -> None:
        self._make_cache = make_cache
        self._divisible = all(_keeps_rows(layer) for layer in _leaves(make_cache()))

    @property
    def divisible(self) -> bool:
        """Whether a cached prefix can be cut at any token."""
        return self._divisible

    def cut(
        self, caches: Sequence[LayerCache], blocks: Sequence[tuple[int, int]], snapshot: bool
    ) -> list[BlockPayload]:
        """The payloads of token ranges the caches hold, evaluated and sharing nothing with them.

        With `snapshot` the last block also gets the state of the layers without rows; the caches must
        then stand exactly at its end.
        """
        leaves = _leaves(caches)
        payloads = []
        for index, (start, stop) in enumerate(blocks):
            rows = tuple(
                (mx.contiguous(leaf.keys[..., start:stop, :]), mx.contiguous(leaf.values[..., start:stop, :]))
                for leaf in leaves
                if _keeps_rows(leaf)
            )
            state = None
            if snapshot and index == len(blocks) - 1 and not self._divisible:
                state = tuple(_copy(leaf) for leaf in leaves if not _keeps_rows(leaf))
            arrays = [array for pair in rows for array in pair] + [a for leaf in state or () for a in _arrays(leaf)]
            mx.eval(arrays)
            payloads.append(BlockPayload(rows, state, sum(array.nbytes for array in arrays), self._divisible))
        return payloads

    def restore(self, payloads: Sequence[BlockPayload], num_tokens: int, capacity: int) -> list[LayerCache]:
        """Fresh caches standing at `num_tokens`, with room for `capacity` before they grow.

        `payloads` are those of the leading blocks; the last may hold more rows than are asked for.
        """
        caches = self._make_cache()
        if num_tokens == 0:
            return caches
        states = iter(payloads[-1].state or ())
        row_layers = iter(range(len(payloads[-1].rows)))

        def rebuild(layer: LayerCache) -> LayerCache:
            if isinstance(layer, CacheList):
                layer.caches = tuple(rebuild(inner) for inner in layer.caches)
                return layer
            if not _keeps_rows(layer):
                return _copy(next(states))
            index = next(row_layers)
            layer.keys = _join([payload.rows[index][0] for payload in payloads], num_tokens, capacity)
            layer.values = _join([payload.rows[index][1] for payload in payloads], num_tokens, capacity)
            layer.offset = num_tokens
            return layer

        return [rebuild(layer) for layer in caches]


def evaluate(caches: Sequence[LayerCache]) -> None:
    """Compute everything pending in the caches."""
    mx.eval([array for leaf in _leaves(caches) for array in _arrays(leaf)])


def _join(pieces: list[mx.array], num_tokens: int, capacity: int) -> mx.array:
    """The first `num_tokens` rows of the pieces, then zeros up to a capacity KVCache would grow to."""
    room = -(-max(capacity, num_tokens) // KVCache.step) * KVCache.step
    surplus = sum(piece.shape[-2] for piece in pieces) - num_tokens
    if surplus:
        pieces = [*pieces[:-1], pieces[-1][..., : pieces[-1].shape[-2] - surplus, :]]
    shape = list(pieces[0].shape)
    shape[-2] = room - num_tokens
    return mx.concatenate([*pieces, mx.zeros(shape, pieces[0].dtype)], axis=-2)


def _leaves(caches: Sequence[LayerCache]) -> list[LayerCache]:
    """The caches with every list of caches replaced by its members."""
    flat: list[LayerCache] = []
    for layer in caches:
        flat += _leaves(layer.caches) if isinstance(layer, CacheList) else [layer]
    return flat


def _keeps_rows(leaf: LayerCache) -> bool:
    return type(leaf) is KVCache


def _arrays(leaf: LayerCache) -> list[mx.array]:
    return [array for _, array in tree_flatten(vars(leaf)) if isinstance(array, mx.array)]


def _copy(leaf: LayerCache) -> LayerCache:
    """An independent copy: MLX writes into arrays in place, so two caches must never share one."""
    twin = copy.copy(leaf)
    for name, value in vars(leaf).items():
        setattr(twin, name, tree_map(lambda x: mx.contiguous(x) if isinstance(x, mx.array) else x, value))
    return twin
