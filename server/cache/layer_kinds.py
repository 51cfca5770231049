"""What the cached state of one model layer consists of, by the kind of its cache object.

Every kind splits it in two: `rows`, which grow with the tokens and can be cut at block ends, and a
`snapshot`, which holds the rest as it is at one position and nowhere else. A kind whose rows are
everything is divisible: it can be resumed at any token.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.cache import ConcatenateKVCache, KVCache, QuantizedKVCache, RotatingKVCache

LayerCache = Any
"""A cache object of mlx-lm's or of omlx's own models; they share no base worth typing against."""
Scalar: TypeAlias = bool | int | float | str | list["Scalar"] | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    arrays: Mapping[str, mx.array] = field(default_factory=dict)
    scalars: Mapping[str, Scalar] = field(default_factory=dict)


class LayerKind(Protocol):
    """`restore` fills a fresh cache of the kind; `rows` are then those of all blocks in order, and
    `num_rows_tokens` what they were cut for in all."""

    divisible: bool

    def rows(self, cache: LayerCache, start: int, stop: int) -> list[mx.array]: ...
    def snapshot(self, cache: LayerCache) -> Snapshot: ...
    def restore(
        self, cache: LayerCache, rows: Sequence[Sequence[mx.array]], snapshot: Snapshot, num_tokens: int, capacity: int
    ) -> LayerCache: ...


class PlainRows:
    """`KVCache` and its like: rows of keys and of values for each token, along the last axis but one. Keys may be one
    array or, quantized, several; values are as many."""

    divisible = True

    def rows(self, cache: LayerCache, start: int, stop: int) -> list[mx.array]:
        arrays: list[Any] = [array for _, array in tree_flatten((cache.keys, cache.values))]
        return [array[..., start:stop, :] for array in arrays]

    def snapshot(self, cache: LayerCache) -> Snapshot:  # noqa: ARG002
        return Snapshot()

    def restore(
        self, cache: LayerCache, rows: Sequence[Sequence[mx.array]], snapshot: Snapshot, num_tokens: int, capacity: int
    ) -> LayerCache:
        del snapshot
        room = num_tokens
        if step := getattr(cache, "step", 0):  # without one the cache grows by what it is given, and has no room ahead
            room = -(-max(capacity, num_tokens) // step) * step
        joined = [_join(list(pieces), num_tokens, room) for pieces in zip(*rows, strict=True)]
        keys, values = joined[: len(joined) // 2], joined[len(joined) // 2 :]
        cache.keys, cache.values = (keys[0], values[0]) if len(keys) == 1 else (tuple(keys), tuple(values))
        cache.offset = num_tokens
        return cache


class RotatingWindow:
    """`RotatingKVCache`: only the window's rows exist, in the order the ring left them, after those it never drops.
    They are kept in the order of time; the ring starts anew from there."""

    divisible = False

    def rows(self, cache: LayerCache, start: int, stop: int) -> list[mx.array]:  # noqa: ARG002
        return []

    def snapshot(self, cache: LayerCache) -> Snapshot:
        held = min(cache.offset, cache.max_size)
        arrays: dict[str, mx.array] = {}
        for name in ("keys", "values") if held else ():
            ordered = cache._temporal_order(getattr(cache, name))
            arrays[name] = cache._trim(ordered.shape[-2] - held, ordered)
        return Snapshot(arrays, {"offset": cache.offset})

    def restore(
        self, cache: LayerCache, rows: Sequence[Sequence[mx.array]], snapshot: Snapshot, num_tokens: int, capacity: int
    ) -> LayerCache:
        del rows, num_tokens, capacity
        for name, array in snapshot.arrays.items():
            setattr(cache, name, mx.contiguous(array))
        cache.offset = snapshot.scalars["offset"]
        cache._idx = 0 if cache.keys is None else cache.keys.shape[2]
        return cache


class StridedRows:
    """A cache whose `state` ends in arrays that get a row every so many tokens, along axis 1; their
    `row_strides` say how many. The arrays before those are the state at the end."""

    divisible = False

    def rows(self, cache: LayerCache, start: int, stop: int) -> list[mx.array]:
        strides = cache.row_strides
        grown = cache.state[len(cache.state) - len(strides) :]
        return [array[:, start // stride : stop // stride] for array, stride in zip(grown, strides, strict=True)]

    def snapshot(self, cache: LayerCache) -> Snapshot:
        fixed = cache.state[: len(cache.state) - len(cache.row_strides)]
        return Snapshot({str(index): array for index, array in enumerate(fixed)}, {"meta": list(cache.meta_state)})

    def restore(
        self, cache: LayerCache, rows: Sequence[Sequence[mx.array]], snapshot: Snapshot, num_tokens: int, capacity: int
    ) -> LayerCache:
        del num_tokens, capacity
        fixed = [mx.contiguous(snapshot.arrays[str(index)]) for index in range(len(snapshot.arrays))]
        grown = [mx.concatenate(list(pieces), axis=1) for pieces in zip(*rows, strict=True)]
        return type(cache).from_state((*fixed, *grown), snapshot.scalars["meta"])


class WholeState:
    """Any other cache: its attributes, as they are."""

    divisible = False

    def rows(self, cache: LayerCache, start: int, stop: int) -> list[mx.array]:  # noqa: ARG002
        return []

    def snapshot(self, cache: LayerCache) -> Snapshot:
        leaves = tree_flatten(vars(cache))
        arrays = {name: value for name, value in leaves if isinstance(value, mx.array)}
        return Snapshot(arrays, {name: value for name, value in leaves if name not in arrays})

    def restore(
        self, cache: LayerCache, rows: Sequence[Sequence[mx.array]], snapshot: Snapshot, num_tokens: int, capacity: int
    ) -> LayerCache:
        del rows, num_tokens, capacity
        arrays = {name: mx.contiguous(array) for name, array in snapshot.arrays.items()}
        fresh = copy.copy(cache)
        for name, value in dict(tree_unflatten([*arrays.items(), *snapshot.scalars.items()])).items():
            setattr(fresh, name, value)
        return fresh


def kind_of(cache: LayerCache) -> LayerKind:
    if type(cache) in (KVCache, QuantizedKVCache, ConcatenateKVCache):
        return PlainRows()
    if type(cache) is RotatingKVCache:
        return RotatingWindow()
    if hasattr(cache, "row_strides"):
        return StridedRows()
    return WholeState()


def _join(pieces: list[mx.array], num_tokens: int, room: int) -> mx.array:
    """The first `num_tokens` rows of the pieces, then zeros up to `room`."""
    surplus = sum(piece.shape[-2] for piece in pieces) - num_tokens
    if surplus:
        pieces = [*pieces[:-1], pieces[-1][..., : pieces[-1].shape[-2] - surplus, :]]
    shape = list(pieces[0].shape)
    shape[-2] = room - num_tokens
    return mx.concatenate([*pieces, mx.zeros(shape, pieces[0].dtype)], axis=-2)
