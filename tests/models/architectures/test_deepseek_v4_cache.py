"""DeepSeek V4's cache: snapshots, batches of unequal rows, padding, and tokens taken back."""

from __future__ import annotations

import copy
import io

import mlx.core as mx
import numpy as np
import pytest

from omlx.server.models.architectures.deepseek_v4.cache import LayerCache

from .conftest import Case
from .deepseek_v4_model import TOLERANCE, distance, feed, snapshot

EDGES = [*range(1, 10), *range(15, 18), *range(62, 67), *range(123, 134), *range(252, 262)]
"""Prefix lengths around multiples of 4, of the short window, and of 128."""
ROWS = [5, 64, 100, 127, 130]


def _prefilled(case: Case, length: int, spare: int = 0) -> list[LayerCache]:
    caches = case.model.make_cache(spare)
    feed(case.model, case.tokens[:length], caches)
    return caches


def _merged(rows: list[list[LayerCache]]) -> list[LayerCache]:
    return [LayerCache.merge(layer) for layer in zip(*rows, strict=True)]


def _next(case: Case, positions: list[int], count: int = 1) -> np.ndarray:
    return np.stack([case.tokens[position : position + count] for position in positions])


def test_a_restored_prefix_answers_as_the_cold_one_at_every_edge(case: Case) -> None:
    caches, start, errors = case.model.make_cache(), 0, []
    for edge in EDGES:
        feed(case.model, case.tokens[start:edge], caches)
        start = edge
        warm, kept = snapshot(caches), [cache.copy() for cache in caches]
        following = case.tokens[edge : edge + 6]
        answer = feed(case.model, following, warm)
        assert np.array_equal(answer, feed(case.model, following, kept)), f"at {edge}: not to the bit"
        errors.append(distance(answer, case.logits[edge : edge + 6]))
    assert max(errors) < TOLERANCE, f"at {EDGES[int(np.argmax(errors))]}"


def test_a_snapshot_stays_what_it_was_when_the_cache_goes_on(full: Case) -> None:
    caches = _prefilled(full, 130)
    kept = [cache.copy() for cache in caches]
    before = [np.array(array) for cache in kept for array in cache.state]
    feed(full.model, full.tokens[200:290], caches)
    after = [np.array(array) for cache in kept for array in cache.state]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert distance(feed(full.model, full.tokens[130:140], kept), full.logits[130:140]) < TOLERANCE


def test_copying_the_attributes_copies_the_cache(full: Case) -> None:
    caches = _prefilled(full, 66)
    twins = [copy.deepcopy(cache) for cache in caches]
    feed(full.model, full.tokens[100:120], caches)
    assert distance(feed(full.model, full.tokens[66:80], twins), full.logits[66:80]) < TOLERANCE


def test_the_state_does_not_depend_on_the_pieces_it_came_in(full: Case) -> None:
    one, many = _prefilled(full, 260), full.model.make_cache()
    for start in range(0, 260, 37):
        feed(full.model, full.tokens[start : min(start + 37, 260)], many)
    for left, right in zip(one, many, strict=True):
        assert left.meta_state == right.meta_state
        for a, b in zip(left.state, right.state, strict=True):
            assert a.shape == b.shape
            assert float(mx.abs(a - b).max().item()) < 1e-4  # pyright: ignore[reportArgumentType]


def test_only_the_rows_grow_and_they_can_be_cut_at_blocks(full: Case) -> None:
    short, long = _prefilled(full, 128), _prefilled(full, 256)
    for early, late in zip(short, long, strict=True):
        rows = len(early.row_strides)
        fixed = [array.shape for array in late.state[: len(late.state) - rows]]
        assert [array.shape for array in early.state[: len(early.state) - rows]] == fixed
        for stride, first, both in zip(early.row_strides, early.state[-rows:], late.state[-rows:], strict=bool(rows)):
            assert both.shape[1] == 256 // stride
            assert np.allclose(np.array(both)[:, : 128 // stride], np.array(first), atol=1e-4)


@pytest.mark.parametrize("lengths", [[3], [5, 64, 127]], ids=["one row", "rows of unequal length"])
def test_a_step_leaves_nothing_to_compute_for_those_after_it(case: Case, lengths: list[int]) -> None:
    caches = _merged([_prefilled(case, length, spare=3) for length in lengths])
    for step in range(3):
        mx.eval(case.model(mx.array(_next(case, [length + step for length in lengths])), caches))
    graph = io.StringIO()
    arrays = [array for cache in caches for pool in cache.pools for array in (pool.kv, pool.gate) if array is not None]
    mx.export_to_dot(graph, *arrays)
    assert arrays
    assert "label" not in graph.getvalue()  # an operation has one


def test_an_empty_cache_has_an_empty_state_that_restores(full: Case) -> None:
    caches = snapshot(full.model.make_cache())
    assert all(cache.empty() and cache.state == () and cache.size() == 0 for cache in caches)
    assert distance(feed(full.model, full.tokens[:20], caches), full.logits[:20]) < TOLERANCE


def test_a_state_of_another_kind_of_layer_is_refused(full: Case) -> None:
    window_only, compressed = _prefilled(full, 8)[:2]
    with pytest.raises(ValueError, match="ratio 4"):
        LayerCache.from_state(window_only.state, compressed.meta_state)


def test_rows_of_unequal_length_decode_as_each_alone(case: Case) -> None:
    batch = _merged([_prefilled(case, length) for length in ROWS])
    for step in range(9):
        positions = [length + step for length in ROWS]
        found = feed(case.model, _next(case, positions), batch)[:, 0]
        assert distance(found, case.logits[positions]) < TOLERANCE
    assert batch[0].offsets == tuple(length + 9 for length in ROWS)


def test_a_row_taken_out_of_a_batch_goes_on_alone(case: Case) -> None:
    batch = _merged([_prefilled(case, length) for length in ROWS])
    feed(case.model, _next(case, ROWS, 3), batch)
    alone = [cache.extract(3) for cache in batch]
    assert distance(feed(case.model, case.tokens[130:180], alone), case.logits[130:180]) < TOLERANCE
    cold = _prefilled(case, 130)
    assert [[a.shape for a in c.state] for c in (x.extract(3) for x in batch)] == [
        [a.shape for a in c.state] for c in cold
    ]


def test_rows_join_and_leave_a_running_batch(case: Case) -> None:
    batch = _merged([_prefilled(case, length) for length in (5, 130)])
    for cache, added in zip(batch, _prefilled(case, 64), strict=True):
        cache.extend(added)
    assert distance(feed(case.model, _next(case, [5, 130, 64]), batch)[:, 0], case.logits[[5, 130, 64]]) < TOLERANCE
    for cache in batch:
        cache.filter([2, 0])
    found = feed(case.model, _next(case, [65, 6], 5), batch)
    assert distance(found, np.stack([case.logits[65:70], case.logits[6:11]])) < TOLERANCE
    for cache, empty in zip(batch, case.model.make_cache(), strict=True):
        cache.extend(empty)
    assert distance(feed(case.model, _next(case, [70, 11, 0]), batch)[:, 0], case.logits[[70, 11, 0]]) < TOLERANCE


def test_prompts_padded_on_the_right_prefill_as_each_alone(case: Case) -> None:
    batch = _merged([case.model.make_cache() for _ in ROWS])
    longest = max(ROWS)
    tokens = np.zeros((len(ROWS), longest), np.int32)
    for row, length in enumerate(ROWS):
        tokens[row, :length] = case.tokens[:length]
    for cache in batch:
        cache.prepare(lengths=ROWS, right_padding=[longest - length for length in ROWS])
    for start in range(0, longest, 50):
        found = feed(case.model, tokens[:, start : start + 50], batch)
        for row, length in enumerate(ROWS):
            own = slice(0, max(min(length - start, 50), 0))
            if own.stop:
                assert distance(found[row, own], case.logits[start : start + own.stop]) < TOLERANCE
    for cache in batch:
        cache.finalize()
    found = feed(case.model, _next(case, ROWS, 3), batch)
    assert distance(found, np.stack([case.logits[length : length + 3] for length in ROWS])) < TOLERANCE


def test_padding_on_the_left_is_refused(full: Case) -> None:
    with pytest.raises(ValueError, match="on the right"):
        full.model.make_cache()[0].prepare(left_padding=[0, 2])


@pytest.mark.parametrize("length", [3, 4, 126, 128, 130, 257])
def test_tokens_taken_back_leave_no_trace(case: Case, length: int) -> None:
    caches = _prefilled(case, length, spare=6)
    for wrong in (5, 3):
        feed(case.model, case.tokens[200 : 200 + wrong], caches)
        assert [cache.trim(wrong) for cache in caches] == [wrong] * len(caches)
    assert (
        distance(feed(case.model, case.tokens[length : length + 9], caches), case.logits[length : length + 9])
        < TOLERANCE
    )


def test_tokens_that_may_be_taken_back_are_no_part_of_the_state(full: Case) -> None:
    for plain, spared in zip(_prefilled(full, 130), _prefilled(full, 130, spare=6), strict=True):
        assert [array.shape for array in plain.state] == [array.shape for array in spared.state]
        assert LayerCache.from_state(spared.state, spared.meta_state).spare == 6


def test_no_more_tokens_are_taken_back_than_can_be(full: Case) -> None:
    restored = snapshot(_prefilled(full, 64, spare=4))
    assert [cache.trim(2) for cache in restored] == [0] * 4
    assert not _prefilled(full, 64)[0].is_trimmable()
    assert _prefilled(full, 64, spare=4)[0].trim(9) == 4
