"""The pool keeps models while they are used and makes room when they are not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from omlx.server.engine.memory_room import MemoryRoom
from omlx.server.engine.messages import Submit
from omlx.server.errors import (
    Conflict,
    EngineUnavailable,
    InsufficientMemory,
    ModelNotFound,
    OmlxError,
    Overloaded,
    ShuttingDown,
)
from omlx.server.models.catalog import ModelEntry, ModelKind
from omlx.server.models.device_memory import DeviceMemory
from omlx.server.models.footprint import Footprint
from omlx.server.models.pool import ModelPool, Residency

from ..waiting import until


class FakeEngine:
    def __init__(self, entry: ModelEntry, failure: OmlxError | None = None) -> None:
        self.entry = entry
        self.pid = 4711
        self.failure = failure
        self.is_alive = False
        self.is_loading = False
        self.ready_seconds = 100.0
        self.failure_may_pass = False
        self.silent_seconds = 0.0
        self.num_dumps = self.num_attached = 0
        self.killed_for = ""
        self.memory_limit = self.claimed_bytes = 0
        self.failed_with: list[OmlxError] = []
        self._end = asyncio.Event()
        self.may_stop = asyncio.Event()
        self.may_stop.set()

    async def attach(self) -> None:
        self.num_attached += 1
        await asyncio.sleep(0)
        self.is_alive = True

    async def ready(self) -> None:
        if self.failure:
            raise self.failure

    def limit_memory(self, num_bytes: int) -> None:
        self.memory_limit = num_bytes

    def fail_requests(self, error: OmlxError) -> None:
        self.failed_with.append(error)

    async def ended(self) -> str:
        await self._end.wait()
        return self.killed_for or "asked to"

    def dump(self) -> None:
        self.num_dumps += 1

    def kill(self, reason: str) -> None:
        self.killed_for = reason
        self.is_alive = False
        self._end.set()

    async def stop(self) -> None:
        await self.may_stop.wait()
        self.is_alive = False
        self._end.set()


def entry(name: str, size_bytes: int = 10) -> ModelEntry:
    return ModelEntry(name, Path("/models") / name, ModelKind.LLM, "llama", size_bytes, 4096)


def make_pool(*names: str, memory_limit: int = 100) -> tuple[ModelPool[FakeEngine], list[FakeEngine]]:
    started: list[FakeEngine] = []

    def start(model: ModelEntry) -> FakeEngine:
        started.append(FakeEngine(model))
        return started[-1]

    return ModelPool([entry(name) for name in names], start, DeviceMemory(2 * memory_limit, memory_limit)), started


async def turns() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_model_is_started_once_for_two_leases():
    pool, started = make_pool("a")
    first, second = await asyncio.gather(pool.lease("a"), pool.lease("a"))
    assert first.engine is second.engine
    assert len(started) == 1


@pytest.mark.parametrize("after", range(6))
async def test_a_model_whose_first_client_leaves_while_it_is_started_serves_the_next(after: int):
    pool, started = make_pool("a")
    leaving = asyncio.create_task(pool.lease("a"))
    for _ in range(after):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    lease = await pool.lease("a")
    assert [engine.num_attached for engine in started] == [1]
    lease.release()
    if not leaving.cancelled():
        leaving.result().release()
    assert await pool.unload("a")


async def test_an_engine_that_makes_room_has_ended_before_another_starts_though_the_client_leaves():
    pool, started = make_pool("a", "b", memory_limit=10)
    (await pool.lease("a")).release()
    started[0].may_stop.clear()
    leaving = asyncio.create_task(pool.lease("b"))
    await turns()
    leaving.cancel()
    next_one = asyncio.create_task(pool.lease("b"))
    await turns()
    assert len(started) == 1
    started[0].may_stop.set()
    assert (await next_one).engine is started[1]


async def test_an_unknown_model_is_refused_naming_the_others():
    pool, _ = make_pool("a", "b")
    with pytest.raises(ModelNotFound, match="a, b"):
        await pool.lease("c")


async def test_an_idle_model_leaves_for_another_least_recently_used_first():
    pool, started = make_pool("a", "b", "c", memory_limit=20)
    for name in ("a", "b", "a"):
        (await pool.lease(name)).release()
    await pool.lease("c")
    assert sorted(pool.engines) == ["a", "c"]
    assert not started[1].is_alive


async def test_each_engine_is_told_its_part_of_the_memory():
    pool, started = make_pool("a", "b", memory_limit=100)
    (await pool.lease("a")).release()
    assert started[0].memory_limit == 100
    (await pool.lease("b")).release()
    assert [engine.memory_limit for engine in started] == [50, 50]
    await pool.unload("a")
    assert started[1].memory_limit == 100


async def test_a_model_in_use_is_never_unloaded():
    pool, _ = make_pool("a", "b", memory_limit=10)
    lease = await pool.lease("a")
    with pytest.raises(Overloaded, match="no memory for b while a"):
        await pool.lease("b")
    lease.release()
    assert (await pool.lease("b")).engine.is_alive


async def test_no_model_leaves_where_that_would_not_make_room():
    pool, started = make_pool("a", "b", "c", memory_limit=20)
    (await pool.lease("a")).release()
    await pool.lease("b")
    pool.replace_entries([entry("a"), entry("b"), entry("c", 15)])
    with pytest.raises(Overloaded, match="no memory for c while b answer"):
        await pool.lease("c")
    assert started[0].is_alive


async def test_models_are_listed_in_the_order_of_their_entries_whatever_is_loaded():
    pool, _ = make_pool("a", "b", "c")
    await pool.lease("c")
    pool.replace_entries([entry("a"), entry("b"), entry("c")])
    assert [each.id for each in pool.entries] == ["a", "b", "c"]
    pool.replace_entries([entry("b")])
    assert [each.id for each in pool.entries] == ["b", "c"]
    await pool.close()


async def test_what_is_preloaded_fits_together():
    pool, started = make_pool("a", "b", "c", memory_limit=20)
    pool.preload("a")
    pool.preload("b")
    with pytest.raises(InsufficientMemory, match="a, b leave less of the 20 B that models may take"):
        pool.preload("c")
    assert [engine.entry.id for engine in started] == ["a", "b"]


@pytest.mark.parametrize("usable", [900, 1099, 30_000, 5_000_000])
async def test_a_model_that_is_alone_admits_what_its_announced_window_holds(usable: int):
    memory = DeviceMemory(total=2_000_000, usable=usable)
    footprint = Footprint(weight_bytes=1000, token_bytes=10, chunk_bytes=100)
    announced = replace(entry("a"), context_window=100_000, footprint=footprint).within(memory)
    started: list[FakeEngine] = []

    def start(model: ModelEntry) -> FakeEngine:
        started.append(FakeEngine(model))
        return started[-1]

    await ModelPool([announced], start, memory).lease("a")
    room = MemoryRoom(footprint, started[0].memory_limit)
    room.check(Submit("r", [0] * (announced.context_window - 1), 1))


async def test_a_model_larger_than_the_limit_is_still_tried_when_it_is_alone():
    pool, _ = make_pool("a", memory_limit=6)
    assert (await pool.lease("a")).engine.is_alive


async def test_a_model_larger_than_the_memory_is_refused_with_the_numbers():
    pool, started = make_pool("a", memory_limit=4)
    with pytest.raises(InsufficientMemory, match="a needs"):
        await pool.lease("a")
    with pytest.raises(InsufficientMemory):
        pool.preload("a")
    assert not started


async def test_releasing_twice_counts_once():
    pool, _ = make_pool("a", "b", memory_limit=10)
    lease, _ = await pool.lease("a"), await pool.lease("a")
    lease.release()
    lease.release()
    with pytest.raises(Overloaded):
        await pool.lease("b")


async def test_a_dead_engine_is_replaced_at_the_next_lease():
    pool, started = make_pool("a")
    (await pool.lease("a")).engine.kill("it crashed")
    assert (await pool.lease("a")).engine is started[1]


async def test_a_dead_engine_is_replaced_by_itself():
    pool, started = make_pool("a")
    (await pool.lease("a")).release()
    started[0].kill("it crashed")
    await until(lambda: len(started) == 2 and pool.failed == {})


async def test_an_engine_that_was_asked_to_end_is_not_replaced():
    pool, started = make_pool("a", "b", memory_limit=10)
    (await pool.lease("a")).release()
    await pool.lease("b")
    await turns()
    assert [engine.entry.id for engine in started] == ["a", "b"]


async def test_a_model_whose_engine_dies_three_times_is_stopped_with_the_reason():
    pool, started = make_pool("a")
    for count in (1, 2, 3):
        lease = await pool.lease("a")
        lease.engine.ready_seconds = 1.0
        lease.engine.kill("it crashed")
        await until(lambda count=count: len(started) > count or "3 times" in str(pool.failed))
    with pytest.raises(EngineUnavailable, match="3 times in a row, at last because it crashed"):
        await pool.lease("a")
    assert len(started) == 3
    assert "it crashed" in pool.failed["a"]


async def test_an_engine_silent_at_two_checks_is_killed_and_replaced():
    pool, started = make_pool("a")
    await pool.lease("a")
    started[0].silent_seconds = 11.0
    pool.check_silence(10.0)
    assert (started[0].num_dumps, started[0].killed_for) == (1, "")
    pool.check_silence(10.0)
    assert "said nothing for 11 seconds" in started[0].killed_for
    await until(lambda: len(started) == 2)


async def test_an_engine_that_speaks_again_is_left_alone():
    pool, started = make_pool("a")
    await pool.lease("a")
    for silence in (11.0, 1.0, 11.0):
        started[0].silent_seconds = silence
        pool.check_silence(10.0)
    assert started[0].is_alive


async def test_a_failed_load_gives_its_lease_back():
    pool, started = make_pool("a", "b", memory_limit=10)
    pool.preload("a")
    started[0].failure = EngineUnavailable("bad weights")
    with pytest.raises(EngineUnavailable, match="bad weights"):
        await pool.lease("a")
    assert (await pool.lease("b")).engine.is_alive


async def test_a_preloaded_model_is_not_started_again():
    pool, started = make_pool("a")
    pool.preload("a")
    await pool.attach()
    await pool.lease("a")
    assert len(started) == 1


async def test_a_server_that_is_told_to_stop_before_it_began_stops_without_an_error():
    pool, started = make_pool("a")
    pool.preload("a")
    pool.drain()
    await pool.attach()
    await pool.close()
    assert not started[0].is_alive


async def test_closing_ends_requests_and_refuses_new_ones():
    pool, started = make_pool("a")
    await pool.lease("a")
    pool.fail_requests(ShuttingDown("bye"))
    assert len(started[0].failed_with) == 1
    with pytest.raises(ShuttingDown):
        await pool.lease("a")
    await pool.close()
    assert not started[0].is_alive


@pytest.mark.parametrize("may_pass", [False, True])
async def test_a_group_whose_rank_ended_while_it_loaded_begins_anew_where_that_may_help(may_pass: bool):
    started: list[FakeEngine] = []

    def start(wanted: ModelEntry) -> FakeEngine:
        started.append(FakeEngine(wanted, None if started else EngineUnavailable("rank 1 has ended")))
        started[-1].ready_seconds, started[-1].failure_may_pass = 0.0, may_pass
        return started[-1]

    pool = ModelPool([entry("a")], start, DeviceMemory(200, 100), is_group=True)
    with pytest.raises(EngineUnavailable):
        await pool.lease("a")
    started[0].kill("rank 1 has ended")
    await until(lambda: "a" in pool.failed or len(started) == 2)
    await turns()
    assert len(started) == (2 if may_pass else 1)
    await pool.close()


async def test_the_model_of_a_group_never_leaves():
    engines: list[FakeEngine] = []

    def start(wanted: ModelEntry) -> FakeEngine:
        engines.append(FakeEngine(wanted))
        return engines[-1]

    memory, at_once = DeviceMemory(200, 100), Residency(ttl_seconds=0)
    pool = ModelPool([entry("a")], start, memory, residency_of=lambda _: at_once, is_group=True)
    (await pool.lease("a")).release()
    with pytest.raises(Conflict, match="stop the server to end the group"):
        await pool.unload("a")
    await pool.unload_idle()
    pool.replace_entries([entry("a"), entry("b")])
    assert [engine.is_alive for engine in engines] == [True]
    assert [each.id for each in pool.entries] == ["a"]
    await pool.close()
