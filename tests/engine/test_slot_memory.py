"""A large row takes its place beside others, and moves when it outgrows it, without being held twice."""

from __future__ import annotations

import gc

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache

from omlx.server.cache.codec import LayerCache
from omlx.server.engine import slot_layout
from omlx.server.engine.slot_layout import SlotGroup, SlotLayout

from .tiny_model import tiny_llama

LAYERS, LENGTH, WIDTH = 16, 2000, 64
LAYER_BYTES = 2 * LENGTH * WIDTH * 4


@pytest.fixture(autouse=True)
def _every_row_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_layout, "_LARGE_BYTES", 0)


def row(seed: int) -> list[LayerCache]:
    caches: list[LayerCache] = []
    for layer in range(LAYERS):
        cache = KVCache()
        shape, key = (1, 1, LENGTH, WIDTH), mx.random.key(1000 * seed + layer)
        cache.keys, cache.values = mx.random.normal(shape, key=key), mx.random.normal(shape, key=key)
        cache.offset = LENGTH
        caches.append(cache)
    mx.eval([[cache.keys, cache.values] for cache in caches])
    return caches


def is_whole(found: list[LayerCache], seed: int) -> bool:
    return all(bool(mx.array_equal(one.keys, other.keys)) for one, other in zip(found, row(seed), strict=True))


def start_measuring() -> int:
    gc.collect()
    mx.clear_cache()
    mx.reset_peak_memory()
    return mx.get_active_memory()


def test_a_row_that_joins_is_never_held_twice_and_takes_one_slot():
    layout = SlotLayout(tiny_llama())
    for seed in range(3):
        caches = row(seed)
        before = start_measuring()
        layout.join(caches)
        del caches
        grown = mx.get_active_memory() - before
        # The slots of a layer are copied to make room; nothing of the others is there twice.
        assert mx.get_peak_memory() - before < 2 * (seed + 3) * LAYER_BYTES
        assert grown < 2 * LAYER_BYTES
    assert all(is_whole(layout.extract(seed), seed) for seed in range(3))


def test_a_row_that_outgrows_its_slot_is_never_held_twice():
    layout = SlotLayout(tiny_llama())
    layout.join(row(0))
    before = start_measuring()
    layout._move_up(layout._rows[0], 100)
    assert mx.get_peak_memory() - before < LAYERS * LAYER_BYTES * 0.9  # of which the larger capacity is a half
    assert [group.capacity for group in layout._groups] == [3072]
    assert is_whole(layout.extract(0), 0)


def test_rows_that_are_not_large_double_the_slots(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slot_layout, "_LARGE_BYTES", 1 << 30)
    group = SlotGroup(2048)
    for seed in range(3):
        group.append(row(seed))
    assert group.positions(1).shape[0] == 4
