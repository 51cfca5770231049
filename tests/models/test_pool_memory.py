"""What the loaded models may take in all never passes what models may take of the machine's memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omlx.server.errors import Overloaded
from omlx.server.models import memory_division
from omlx.server.models.catalog import ModelEntry, ModelKind
from omlx.server.models.device_memory import DeviceMemory
from omlx.server.models.footprint import Footprint
from omlx.server.models.lease import Lease
from omlx.server.models.memory_division import divide
from omlx.server.models.pool import ModelPool, Residency

from .test_pool import FakeEngine, entry, turns

GB = 10**9
MEMORY = DeviceMemory(64 * GB, 48 * GB)


def model(name: str, weight_gb: int, token_kib: int, window: int = 131_072) -> ModelEntry:
    footprint = Footprint(weight_bytes=weight_gb * GB, token_bytes=token_kib << 10)
    return replace(entry(name), footprint=footprint, context_window=window).within(MEMORY)


def pool_of(*models: ModelEntry, pinned: str = "") -> tuple[ModelPool[FakeEngine], dict[str, FakeEngine]]:
    engines: dict[str, FakeEngine] = {}

    def start(wanted: ModelEntry) -> FakeEngine:
        engines[wanted.id] = FakeEngine(wanted)
        return engines[wanted.id]

    return ModelPool(models, start, MEMORY, residency_of=lambda name: Residency(pinned=name == pinned)), engines


async def test_a_model_is_not_loaded_beside_requests_that_claim_its_memory():
    pool, engines = pool_of(model("a", 20, 256), model("b", 24, 100))
    lease = await pool.lease("a")
    engines["a"].claimed_bytes = 20 * GB + 104_096 * (256 << 10)
    with pytest.raises(Overloaded, match="no memory for b while a answer"):
        await pool.lease("b")
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


async def test_a_prompt_has_the_memory_that_idle_models_do_not_need():
    large, small = model("a", 20, 256), model("b", 4, 100)
    pool, engines = pool_of(large, small)
    (await pool.lease("a")).release()
    (await pool.lease("b", 1000)).release()
    assert engines["a"].memory_limit < large.total_bytes(80_000)
    lease = await pool.lease("a", 80_000)
    assert engines["a"].memory_limit >= large.total_bytes(80_000 + 4096)
    assert small.needed_bytes <= engines["b"].memory_limit <= 48 * GB - engines["a"].memory_limit
    lease.release()
    await pool.unload_idle()
    assert engines["a"].memory_limit < large.total_bytes(80_000)


async def test_an_idle_model_leaves_where_a_prompt_needs_the_memory_of_its_weights():
    large = model("a", 20, 256)
    pool, engines = pool_of(large, model("b", 12, 100))
    (await pool.lease("b")).release()
    await pool.lease("a", 80_000)
    assert list(pool.engines) == ["a"]
    assert engines["a"].memory_limit == 48 * GB


async def test_an_idle_model_ends_whole_though_the_client_leaves_whose_prompt_needs_its_memory():
    pool, engines = pool_of(model("a", 20, 256), model("b", 12, 100))
    (await pool.lease("a")).release()
    (await pool.lease("b")).release()
    engines["b"].may_stop.clear()
    leaving = asyncio.create_task(pool.lease("a", 80_000))
    await turns()
    leaving.cancel()
    engines["b"].may_stop.set()
    await turns()
    assert leaving.cancelled()
    assert not engines["b"].is_alive
    assert await pool.unload("a")


async def test_beside_a_pinned_model_a_prompt_has_what_memory_there_is_and_the_engine_refuses_what_is_longer():
    pool, engines = pool_of(model("a", 20, 256), pinned := model("b", 12, 100), pinned="b")
    (await pool.lease("b")).release()
    await pool.lease("a", 80_000)
    assert engines["a"].memory_limit == 48 * GB - pinned.needed_bytes


async def test_a_prompt_is_refused_for_now_while_requests_of_others_claim_its_memory():
    large, small = model("a", 20, 256), model("b", 4, 100)
    pool, engines = pool_of(large, small)
    other = await pool.lease("b", 100_000)
    with pytest.raises(Overloaded, match="no memory for a while b answer"):
        await pool.lease("a", 80_000)
    assert not pool._loaded["a"].num_leases
    assert engines["b"].memory_limit == small.total_bytes(100_000 + 4096)
    other.release()
    await pool.lease("a", 80_000)


async def test_what_a_lease_claims_is_left_to_it_before_the_engine_has_told_of_the_request():
    large = model("a", 20, 256)
    pool, engines = pool_of(large, model("b", 4, 100))
    lease = await pool.lease("a", 80_000)
    await pool.lease("b")
    assert engines["a"].memory_limit >= large.total_bytes(80_000 + 4096)
    lease.release()
    await pool.unload_idle()
    assert engines["a"].memory_limit < large.total_bytes(80_000)


async def test_an_encoder_has_what_it_claims_and_the_others_have_the_rest():
    encoder = replace(model("b", 4, 100), kind=ModelKind.EMBEDDING)
    pool, engines = pool_of(model("a", 10, 256, window=4096), encoder)
    await pool.lease("a")
    await pool.lease("b")
    assert engines["b"].memory_limit == encoder.needed_bytes
    assert engines["a"].memory_limit == 48 * GB - encoder.needed_bytes


async def test_encoders_alone_have_what_they_claim():
    encoder = replace(model("a", 4, 100), kind=ModelKind.EMBEDDING)
    pool, engines = pool_of(encoder)
    await pool.lease("a")
    assert engines["a"].memory_limit == encoder.needed_bytes


async def test_what_a_model_was_refused_for_is_left_to_it_as_requests_end_and_for_a_minute(
    monkeypatch: pytest.MonkeyPatch,
):
    small = model("b", 4, 100)
    pool, engines = pool_of(model("a", 20, 256), small)
    lease = await pool.lease("a", 1000)
    engines["a"].claimed_bytes = 47 * GB
    for claimed in (47 * GB, 45 * GB, 44 * GB):
        engines["a"].claimed_bytes = min(claimed, engines["a"].memory_limit)
        with pytest.raises(Overloaded, match="no memory for b"):
            await pool.lease("b")
        assert engines["a"].memory_limit == max(claimed, 48 * GB - small.needed_bytes)
    engines["a"].claimed_bytes = 48 * GB - small.needed_bytes
    monkeypatch.setattr(memory_division, "monotonic", lambda: monotonic() + 61)
    await pool.unload_idle()
    assert engines["a"].memory_limit == 48 * GB
    await pool.lease("b")
    lease.release()


async def test_a_model_that_has_long_been_idle_keeps_what_it_needs_until_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
):
    idle = model("b", 4, 100)
    pool, engines = pool_of(model("a", 10, 256), idle)
    (await pool.lease("b")).release()
    await pool.lease("a")
    assert engines["b"].memory_limit > 2 * idle.needed_bytes
    monkeypatch.setattr(memory_division, "monotonic", lambda: monotonic() + 601)
    await pool.unload_idle()
    assert engines["b"].memory_limit == idle.needed_bytes
    assert engines["a"].memory_limit == 48 * GB - idle.needed_bytes
    monkeypatch.undo()
    await pool.lease("b", 10_000)
    assert engines["b"].memory_limit >= idle.total_bytes(10_000)


async def test_of_models_that_are_all_idle_the_one_used_last_keeps_the_memory(monkeypatch: pytest.MonkeyPatch):
    idle = model("a", 10, 256)
    pool, engines = pool_of(idle, model("b", 4, 100))
    for name in "ab":
        (await pool.lease(name)).release()
    monkeypatch.setattr(memory_division, "monotonic", lambda: monotonic() + 601)
    await pool.unload_idle()
    assert engines["b"].memory_limit == 48 * GB - idle.needed_bytes


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
    st.tuples(st.just("lease"), NAMES, st.integers(0, 200_000)),
    st.tuples(st.just("release"), NAMES, st.just(0)),
    st.tuples(st.just("claim"), NAMES, st.integers(0, 60) | st.integers(18, 30)),
    st.tuples(st.just("unload_idle"), NAMES, st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=30))
@example([("lease", "a", 1000), ("claim", "a", 47), ("lease", "b", 0), ("claim", "a", 20), ("lease", "b", 90_000)])
@example([("lease", "b", 0), ("release", "b", 0), ("lease", "c", 130_000), ("lease", "a", 80_000)])
def test_whatever_is_asked_for_the_limits_stay_within_the_memory_and_above_what_is_claimed(
    actions: list[tuple[str, str, int]],
):
    asyncio.run(take(actions))


async def take(actions: list[tuple[str, str, int]]) -> None:
    pool, engines = pool_of(*MODELS)
    leases: list[tuple[str, Lease[FakeEngine]]] = []
    for action, name, amount in actions:
        before = {model_id: engine.memory_limit for model_id, engine in pool.engines.items()}
        if action == "lease":
            try:
                leases.append((name, await pool.lease(name, amount)))
            except Overloaded:
                assert amount or name not in pool.engines
        elif action == "release":
            for _, lease in [each for each in leases if each[0] == name]:
                lease.release()
            leases = [each for each in leases if each[0] != name]
        elif action == "claim" and name in engines:
            engines[name].claimed_bytes = amount * GB
        elif action == "unload_idle":
            await pool.unload_idle()
        loaded = pool.engines
        assert sum(engine.memory_limit for engine in loaded.values()) <= MEMORY.usable
        for model_id, engine in loaded.items():
            told = min(engine.claimed_bytes, before.get(model_id, 0))
            leased = max((lease.claimed_bytes for holder, lease in leases if holder == model_id), default=0)
            assert engine.memory_limit >= max(engine.entry.needed_bytes, told, leased)
    await pool.close()
