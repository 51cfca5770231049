"""Taking back the last tokens of a row that stands alone.

Where all its caches can be trimmed, they are. A recurrent state cannot, nor a sliding window that has dropped tokens:
there the row goes back to where it stood before the step, and the tokens that were right are computed once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    ChunkedKVCache,
    ConcatenateKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
)

from ..cache.codec import LayerCache, evaluate, flattened

_WRITTEN_BEHIND_ITS_END = (KVCache, QuantizedKVCache, ChunkedKVCache, ConcatenateKVCache, RotatingKVCache)
"""Several tokens at once touch nothing of what these caches hold: it stays in place, or stands in a new array."""

CANNOT_TAKE_BACK = "what its layers keep cannot be taken back"


def can_take_back(caches: Sequence[LayerCache]) -> bool:
    return all(_can_take_back(cache) for cache in flattened(caches))


def snapshot(caches: Sequence[LayerCache]) -> list[LayerCache]:
    """The row as it is before a step of several tokens. Its arrays are referred to, not copied."""
    return [_snapshot(cache) for cache in caches]


def keep_first(
    model: Callable[..., mx.array],
    caches: list[LayerCache],
    before: list[LayerCache],
    fed: Sequence[int],
    count: int,
) -> list[LayerCache]:
    """The row with the first `count` of the tokens that it was `fed` since the snapshot `before`. Neither of the two
    is to be used after that."""
    if count == len(fed):
        return caches
    held = flattened(caches)
    if all(cache.is_trimmable() for cache in held):
        for cache in held:
            cache.trim(len(fed) - count)
        return caches
    model(mx.array([list(fed[:count])]), cache=before)
    evaluate(before)  # here, so that it counts as part of the draft's price
    return before


def _can_take_back(cache: LayerCache) -> bool:
    if getattr(cache, "keep", 0):
        return False  # several tokens at once would not see the first ones, which such a window keeps
    return type(cache) in (*_WRITTEN_BEHIND_ITS_END, ArraysCache) or hasattr(cache, "take_back")


def _snapshot(cache: LayerCache) -> LayerCache:
    if hasattr(cache, "take_back"):
        return cache.copy()
    second: Any = copy(cache)
    if isinstance(cache, CacheList):
        second.caches = tuple(_snapshot(inner) for inner in cache.caches)
    elif isinstance(cache, ArraysCache):
        second.cache = list(cache.cache)
    return second
