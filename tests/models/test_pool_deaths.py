"""What becomes of a model whose engines die: tried again, stopped, and forgiven where somebody has looked after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from omlx.server.errors import EngineUnavailable
from omlx.server.models.catalog import ModelEntry
from omlx.server.models.device_memory import DeviceMemory
from omlx.server.models.footprint import Footprint
from omlx.server.models.pool import ModelPool, Residency

from ..waiting import until
from .test_pool import FakeEngine, entry, make_pool, turns


async def die_fast(pool: ModelPool[FakeEngine], started: list[FakeEngine], times: int) -> None:
    for _ in range(times):
        (await pool.lease("a")).release()
        started[-1].ready_seconds = 1.0
        started[-1].kill("it crashed")
        await turns()


async def test_a_stopped_model_is_tried_again_when_somebody_loads_it():
    pool, started = make_pool("a")
    await die_fast(pool, started, 3)
    with pytest.raises(EngineUnavailable, match="then load it again on the dashboard's Models page, or restart"):
        await pool.lease("a")
    await pool.load("a")
    assert len(started) == 4
    assert pool.failed == {}
    assert (await pool.lease("a")).engine.is_alive


async def test_a_stopped_model_is_tried_again_when_its_entry_has_changed():
    pool, started = make_pool("a")
    await die_fast(pool, started, 3)
    pool.replace_entries([entry("a")])
    with pytest.raises(EngineUnavailable):
        await pool.lease("a")
    pool.replace_entries([entry("a", 20)])
    assert (await pool.lease("a")).engine.entry.size_bytes == 20


async def asked(pool: ModelPool[FakeEngine]) -> None:
    await pool.unload("a")


async def idle(pool: ModelPool[FakeEngine]) -> None:
    await pool.unload_idle()


async def displaced(pool: ModelPool[FakeEngine]) -> None:
    (await pool.lease("b")).release()


@pytest.mark.parametrize("end", [asked, idle, displaced])
async def test_a_long_life_between_deaths_makes_them_no_row_however_it_ends(
    end: Callable[[ModelPool[FakeEngine]], Awaitable[None]],
):
    pool, started = make_pool("a", "b", memory_limit=10)
    pool._residency_of = lambda _: Residency(ttl_seconds=0)
    await die_fast(pool, started, 2)
    started[-1].ready_seconds = 5 * 3600.0
    await end(pool)
    assert "a" not in pool.engines
    await die_fast(pool, started, 1)
    await pool.lease("a")


async def test_a_model_needs_no_more_after_a_crash_than_before_with_what_drafts_for_it():
    started: list[FakeEngine] = []
    smaller = Footprint(weight_bytes=40, token_bytes=0)

    def start(wanted: ModelEntry) -> FakeEngine:
        started.append(FakeEngine(wanted))
        return started[-1]

    def with_draft(wanted: ModelEntry) -> ModelEntry:
        assert wanted.footprint is not None
        return replace(wanted, footprint=wanted.footprint.beside(smaller))

    model = replace(entry("a"), footprint=Footprint(weight_bytes=100, token_bytes=0))
    pool = ModelPool([model], start, DeviceMemory(200, 200), with_draft=with_draft)
    (await pool.lease("a")).release()
    for count in (2, 3, 4):
        started[-1].kill("it crashed")
        await until(lambda count=count: len(started) == count and pool.failed == {})
    assert [engine.entry.needed_bytes for engine in started] == [140] * 4


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


async def test_each_death_leaves_one_line_that_says_whose_why_and_what_follows(caplog: pytest.LogCaptureFixture):
    pool, started = make_pool("a")
    await die_fast(pool, started, 3)
    died = "The engine of a (process 4711) died"
    assert errors(caplog) == [
        f"{died}: it crashed. It is started again: quick death 1 of 3",
        f"{died}: it crashed. It is started again: quick death 2 of 3",
        f"{died}. {pool.failed['a']}",
    ]


async def test_a_death_while_the_server_ends_leaves_its_line_and_starts_nothing(caplog: pytest.LogCaptureFixture):
    pool, started = make_pool("a")
    (await pool.lease("a")).release()
    pool.drain()
    started[0].kill("it crashed")
    await turns()
    assert errors(caplog) == ["The engine of a (process 4711) died: it crashed"]
    assert len(started) == 1


async def test_engines_that_the_server_kills_at_its_end_leave_no_line(caplog: pytest.LogCaptureFixture):
    pool, _ = make_pool("a")
    (await pool.lease("a")).release()
    pool.drain()
    pool.kill()
    await turns()
    await pool.close()
    assert errors(caplog) == []
