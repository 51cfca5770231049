"""What rows hold while they are decoded: large ones what they need, and nothing of them twice."""

from __future__ import annotations

import gc

import mlx.core as mx
from mlx_lm.models.cache import KVCache, make_prompt_cache

from omlx.server.cache.codec import LayerCache
from omlx.server.engine.deferred_layout import DeferredLayout
from omlx.server.engine.layout_choice import LayoutChoice
from omlx.server.engine.loaded_batch import agreed_large_row, agreed_memory
from omlx.server.engine.messages import Batching
from omlx.server.engine.paged_attention import PAGE_TOKENS
from omlx.server.engine.paged_layout import PagedLayout
from omlx.server.engine.ranks.group import Alone
from omlx.server.engine.slot_layout import SlotGroup, SlotLayout
from omlx.server.models.footprint import Footprint

from .reference_pages import ReferencePageAttention
from .tiny_model import tiny_llama

LAYERS, LENGTH, WIDTH = 16, 2000, 64
LAYER_BYTES = 2 * LENGTH * WIDTH * 4


def row(seed: int, length: int = LENGTH, width: int = WIDTH) -> list[LayerCache]:
    caches: list[LayerCache] = []
    for layer in range(LAYERS):
        cache = KVCache()
        shape, key = (1, 1, length, width), mx.random.key(1000 * seed + layer)
        cache.keys, cache.values = mx.random.normal(shape, key=key), mx.random.normal(shape, key=key)
        cache.offset = length
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


def test_a_large_row_joins_without_a_copy():
    layout = SlotLayout(tiny_llama(), large_tokens=0)
    for seed in range(3):
        caches = row(seed)
        before = start_measuring()
        layout.join(caches)
        del caches
        # It came without room for another token: each layer is copied once, and the old one let go.
        assert mx.get_peak_memory() - before < 3 * LAYER_BYTES
        assert mx.get_active_memory() - before < 0.1 * LAYERS * LAYER_BYTES
    assert all(is_whole(layout.extract(seed), seed) for seed in range(3))


def test_a_large_row_that_outgrows_its_room_is_never_held_twice():
    layout = SlotLayout(tiny_llama(), large_tokens=0)
    layout.join(row(0))
    before = start_measuring()
    layout._move_up(layout._rows[0], 100)
    grown = mx.get_active_memory() - before
    assert grown < 0.2 * LAYERS * LAYER_BYTES
    assert mx.get_peak_memory() - before - grown < 2 * LAYER_BYTES
    assert [group.capacity for group in layout._groups] == [2304]
    assert is_whole(layout.extract(0), 0)


def test_what_a_large_row_leaves_is_free():
    layout = SlotLayout(tiny_llama(), large_tokens=0)
    for seed in range(3):
        layout.join(row(seed))
    before = start_measuring()
    layout.leave(1)
    assert before - mx.get_active_memory() >= LAYERS * LAYER_BYTES
    assert is_whole(layout.extract(0), 0)
    assert is_whole(layout.extract(1), 2)


def test_rows_in_pages_share_no_slots_and_others_may():
    model = tiny_llama()
    layout = DeferredLayout(model, lambda: make_prompt_cache(model))
    assert layout.has_slots
    layout._take(LayoutChoice(PagedLayout(model, ReferencePageAttention()), Batching("batched")))
    assert not layout.has_slots


class TwoRanks(Alone):
    """The other one has less memory, or more of the model."""

    size = 2

    def gather(self, value: int) -> list[int]:
        return [value, 70]


def test_ranks_agree_on_which_rows_are_large_whatever_their_memory_and_their_part_of_the_model():
    assert agreed_large_row(1000, Footprint(weight_bytes=0, token_bytes=10), Alone()) == 100
    assert agreed_large_row(1000, Footprint(weight_bytes=0, token_bytes=10), TwoRanks()) == 70
    assert agreed_large_row(1 << 40, Footprint(weight_bytes=0, token_bytes=0), TwoRanks()) == 70
    orders: list[list[list[int]]] = []
    for width in (8, 64):
        layout = SlotLayout(tiny_llama(), large_tokens=70)
        for seed, length in enumerate((50, 100, 60, 71, 70)):
            layout.join(row(seed, length, width))
        orders.append([group.lengths for group in layout._groups])
    assert orders == [[[50, 60, 70], [100], [71]]] * 2


def test_ranks_plan_with_the_memory_of_the_one_that_has_least():
    assert agreed_memory(90 << 20, 10 << 20, Alone()) == 90 << 20
    assert agreed_memory(90 << 20, 10 << 20, TwoRanks()) == 80 << 20
    assert agreed_memory(50 << 20, 10 << 20, TwoRanks()) == 50 << 20


def test_rows_that_are_not_large_share_slots_whose_number_doubles():
    group = SlotGroup(2048)
    for seed in range(3):
        group.append(row(seed))
    assert group.positions(1).shape[0] == 4


def test_pages_grow_by_what_is_needed_and_go_with_the_row_that_needed_them():
    layout = PagedLayout(tiny_llama(), ReferencePageAttention(), spare_tokens=0)
    layout.join(row(0))
    for seed in range(1, 9):
        layout.join(row(seed))
    pages = 9 * -(-(LENGTH + 1) // PAGE_TOKENS)
    assert layout._layers[0].keys.shape[0] == pages
    for _ in range(7):
        layout.leave(1)
    assert layout._layers[0].keys.shape[0] < pages / 2
    for index, seed in enumerate((0, 8)):
        found = layout.extract(index)
        assert all(
            bool(mx.array_equal(one.keys[..., :LENGTH, :], other.keys))
            for one, other in zip(found, row(seed), strict=True)
        )
