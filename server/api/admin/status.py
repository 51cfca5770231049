"""How the server is: requests under way and ended, memory, the last half hour; the log; the agents seen."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Literal

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter

from ...engine.record import RequestView, Totals
from ...models.pool import ModelPool
from .context import AdminContext, answer_with
from .history import Sample

Level = Literal["INFO", "WARNING", "ERROR"]
LAST_LINE = (1 << 53) - 1
"""The largest whole number that every client's JSON holds."""
LineNumber = Annotated[int, QueryParameter(ge=0, le=LAST_LINE)]


class Status(msgspec.Struct, frozen=True):
    """Sizes in bytes. `memory_bytes` is what the engines hold, of `usable_bytes` that models may take of the device's
    `device_bytes`."""

    version: str
    instance_id: str
    num_running: int
    num_waiting: int
    memory_bytes: int
    cache_bytes: int
    usable_bytes: int
    device_bytes: int
    totals: Totals
    history: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a model answers nobody, or, where it `is_disk`, keeps no prefixes on disk for now."""

    model: str
    reason: str
    is_disk: bool = False


class Requests(msgspec.Struct, frozen=True):
    live: tuple[RequestView, ...]
    ended: tuple[RequestView, ...]


class AgentSeen(msgspec.Struct, frozen=True):
    """`last_seen_at` is in seconds since the epoch."""

    name: str
    last_seen_at: float


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    ledger = context.server.ledger

    @get("/api/status")
    async def get_status() -> Response[bytes]:
        return answer_with(status(context))

    @get("/api/requests")
    async def get_requests() -> Response[bytes]:
        return answer_with(Requests(ledger.live(), ledger.ended()))

    @get("/api/agents")
    async def get_agents() -> Response[bytes]:
        return answer_with([AgentSeen(name, at) for name, at in ledger.last_seen.items()])

    @get("/api/logs")
    async def get_logs(level: FromQuery[Level] = "INFO", after: LineNumber = 0) -> Response[bytes]:
        return answer_with(context.logs.lines(level, after))

    return [get_status, get_requests, get_agents, get_logs]


def troubles(pool: ModelPool) -> list[Trouble]:
    """What `/health` calls degraded, by model; without those that are loaded again already."""
    engines = pool.engines
    loading = {model_id for model_id, engine in engines.items() if engine.is_loading}
    failed = [Trouble(model_id, reason) for model_id, reason in pool.failed.items() if model_id not in loading]
    told = ((model_id, engine.stats.cache_trouble) for model_id, engine in engines.items())
    return failed + [Trouble(model_id, reason, is_disk=True) for model_id, reason in told if reason]


def status(context: AdminContext) -> Status:
    memory = context.server.pool.memory
    stats = [engine.stats for engine in context.server.pool.engines.values()]
    return Status(
        version=version("omlx"),
        instance_id=context.server.instance_id,
        num_running=sum(each.num_running for each in stats),
        num_waiting=sum(each.num_waiting for each in stats),
        memory_bytes=sum(each.memory_bytes for each in stats),
        cache_bytes=sum(each.cache_bytes for each in stats),
        usable_bytes=memory.usable,
        device_bytes=memory.total,
        totals=context.server.ledger.totals.copy(),
        history=context.history.samples,
    )
