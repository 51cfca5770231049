"""What the loaded models may take in all never passes what models may take of the machine's memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.server.errors import Overloaded
from omlx.server.models.catalog import ModelEntry
from omlx.server.models.device_memory import DeviceMemory
from omlx.server.models.footprint import Footprint
from omlx.server.models.lease import Lease
from omlx.server.models.memory_division import divide
from omlx.server.models.pool import ModelPool

from .test_pool import FakeEngine, entry

GB = 10**9
MEMORY = DeviceMemory(64 * GB, 48 * GB)


def model(name: str, weight_gb: int, token_kib: int, window: int = 131_072) -> ModelEntry:
    footprint = Footprint(weight_bytes=weight_gb * GB, token_bytes=token_kib << 10)
    return replace(entry(name), footprint=footprint, context_window=window).within(MEMORY)


def pool_of(*models: ModelEntry) -> tuple[ModelPool[FakeEngine], dict[str, FakeEngine]]:
    engines: dict[str, FakeEngine] = {}

    def start(wanted: ModelEntry) -> FakeEngine:
        engines[wanted.id] = FakeEngine(wanted)
        return engines[wanted.id]

    return ModelPool(models, start, MEMORY), engines


async def test_a_model_is_not_loaded_beside_requests_that_claim_its_memory():
    pool, engines = pool_of(model("a", 20, 256), model("b", 24, 100))
    lease = await pool.lease("a")
    engines["a"].claimed_bytes = 20 * GB + 104_096 * (256 << 10)
    with pytest.raises(Overloaded, match="no memory for b while a answer"):
        await pool.lease("b")
    assert engines["a"].memory_limit == 48 * GB
    engines["a"].claimed_bytes = 20 * GB
    await pool.lease("b")
    lease.release()
    assert [engine.is_alive for engine in engines.values()] == [True, True]
    assert engines["a"].memory_limit + engines["b"].memory_limit <= 48 * GB


async def test_what_requests_claim_is_left_to_them_for_as_long_as_they_do():
    pool, engines = pool_of(model("a", 10, 256), model("b", 10, 256))
    await pool.lease("a")
    engines["a"].claimed_bytes = 32 * GB
    await pool.lease("b")
    assert [engines["a"].memory_limit, engines["b"].memory_limit] == pytest.approx([32 * GB, 16 * GB], rel=1e-4)
    engines["a"].claimed_bytes = 12 * GB
    await pool.unload_idle()
    assert [engines["a"].memory_limit, engines["b"].memory_limit] == pytest.approx([24 * GB, 24 * GB], rel=1e-4)


async def test_an_engine_is_told_its_part_only_where_that_is_another_one():
    pool, engines = pool_of(model("a", 10, 256))
    await pool.lease("a")
    engines["a"].memory_limit = 0
    await pool.unload_idle()
    assert engines["a"].memory_limit == 0


def test_each_model_may_have_a_sequence_as_long_as_the_others_or_its_window():
    large, small, short = model("a", 10, 300), model("b", 4, 100), model("c", 2, 50, window=4096)
    parts = divide(48 * GB, [(each, each.needed_bytes) for each in (large, small, short)])
    tokens = [
        (part - weights * GB) // (kib << 10)
        for part, weights, kib in zip(parts, (10, 4, 2), (300, 100, 50), strict=True)
    ]
    assert tokens[0] == pytest.approx(tokens[1], abs=10)
    assert tokens[2] == pytest.approx(4096, abs=10)
    assert 48 * GB - 2_000_000 < sum(parts) <= 48 * GB


def test_what_no_window_needs_is_divided_evenly():
    parts = divide(48 * GB, [(each, each.needed_bytes) for each in (entry("a", 10), entry("b", 20))])
    assert parts == [24 * GB - 5, 24 * GB + 5]


MODELS = (model("a", 20, 256), model("b", 24, 100), model("c", 5, 64), model("d", 45, 32))
NAMES = st.sampled_from([each.id for each in MODELS])
ACTIONS = st.one_of(
    st.tuples(st.just("lease"), NAMES, st.just(0)),
    st.tuples(st.just("release"), NAMES, st.just(0)),
    st.tuples(st.just("claim"), NAMES, st.integers(0, 60) | st.integers(18, 30)),
    st.tuples(st.just("unload_idle"), NAMES, st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=30))
def test_whatever_is_asked_for_the_limits_stay_within_the_memory_and_above_what_is_claimed(
    actions: list[tuple[str, str, int]],
):
    asyncio.run(take(actions))


async def take(actions: list[tuple[str, str, int]]) -> None:
    pool, engines = pool_of(*MODELS)
    leases: list[tuple[str, Lease[FakeEngine]]] = []
    for action, name, gigabytes in actions:
        before = {model_id: engine.memory_limit for model_id, engine in pool.engines.items()}
        if action == "lease":
            try:
                leases.append((name, await pool.lease(name)))
            except Overloaded:
                assert name not in pool.engines
        elif action == "release":
            for _, lease in [each for each in leases if each[0] == name]:
                lease.release()
        elif action == "claim" and name in engines:
            engines[name].claimed_bytes = gigabytes * GB
        elif action == "unload_idle":
            await pool.unload_idle()
        loaded = pool.engines
        assert sum(engine.memory_limit for engine in loaded.values()) <= MEMORY.usable
        for model_id, engine in loaded.items():
            claimed = min(engine.claimed_bytes, before.get(model_id, 0))
            assert engine.memory_limit >= max(engine.entry.needed_bytes, claimed)
    await pool.close()
