"""`GET /health`: the process answers. `GET /ready`: the models asked for at start are loaded, and their engines live.
`GET /metrics`: Prometheus."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from ..cache.clearing import files_on_disk
from ..engine.process import Pulse
from .context import Context

_STALLED_SECONDS = 60.0
"""An engine says something with every step, and every few seconds when it is idle. No step takes so long."""


class Health(msgspec.Struct, frozen=True):
    """`loading`, `failed` and `stalled` name models, `reasons` say why those failed, which ranks hold up those that
    stalled, or what ended the engine whose place another, still loading, takes, `cache_trouble` why a model's prefixes
    are not kept on disk for now; requests running and waiting are summed over the engines. `status` is "stopping",
    "loading", "degraded" or "ok"."""

    status: str
    version: str
    instance_id: str
    loading: list[str]
    failed: list[str]
    stalled: list[str]
    reasons: dict[str, str]
    cache_trouble: dict[str, str]
    num_running: int
    num_waiting: int
    engines: dict[str, Pulse]


def routes(context: Context) -> list[HTTPRouteHandler]:
    def health() -> Health:
        engines = context.pool.engines
        loading = [model_id for model_id, engine in engines.items() if engine.is_loading]
        failed = context.pool.failed
        pulses = {
            model_id: engine.pulse for model_id, engine in engines.items() if engine.is_alive and not engine.is_loading
        }
        held_up = {model_id: engine.stalled_for for model_id, engine in engines.items() if engine.stalled_for}
        stalled = [
            model_id
            for model_id, pulse in pulses.items()
            if model_id in held_up or (pulse.seconds_since_step or 0) > _STALLED_SECONDS
        ]
        cache_trouble = {
            model_id: engine.stats.cache_trouble for model_id, engine in engines.items() if engine.stats.cache_trouble
        }
        return Health(
            status=_status(context.pool.is_closing, bool(loading), bool(failed or stalled or cache_trouble)),
            version=version("omlx"),
            instance_id=context.instance_id,
            loading=loading,
            failed=[model_id for model_id in failed if model_id not in loading],
            stalled=stalled,
            reasons=failed | held_up,
            cache_trouble=cache_trouble,
            num_running=sum(engine.stats.num_running for engine in engines.values()),
            num_waiting=sum(engine.stats.num_waiting for engine in engines.values()),
            engines=pulses,
        )

    @get("/health")
    async def get_health() -> Response[bytes]:
        return Response(msgspec.json.encode(health()), media_type="application/json")

    @get("/ready")
    async def get_ready() -> Response[bytes]:
        now = health()
        can_serve = now.status == "ok" or (now.status == "degraded" and not now.failed and not now.stalled)
        status_code = 200 if can_serve else 503
        return Response(msgspec.json.encode(now), status_code=status_code, media_type="application/json")

    @get("/metrics")
    async def get_metrics() -> Response[bytes]:
        on_disk = await asyncio.to_thread(files_on_disk, context.cache_folder)
        body = context.metrics.render(on_disk.size_bytes)
        return Response(body, media_type="text/plain; version=0.0.4")

    return [get_health, get_ready, get_metrics]


def _status(is_closing: bool, is_loading: bool, has_trouble: bool) -> str:
    if is_closing:
        return "stopping"
    return "loading" if is_loading else "degraded" if has_trouble else "ok"
