"""The only wiring: settings and a catalog in, an ASGI application out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from .api import completions, health, messages, models, openapi, responses
from .api.context import Context
from .api.failures import on_bug, on_http_exception, on_omlx_error
from .api.guard import Guard
from .engine.generation import Generator
from .engine.model_text import ModelText
from .engine.process import EngineProcess
from .errors import OmlxError
from .metrics import Metrics
from .models.pool import ModelPool
from .settings import ServeSettings

_ROOMS = (completions, responses, messages, models, health, openapi)
_MAX_TEXTS = 16


def create_app(settings: ServeSettings, pool: ModelPool[EngineProcess], instance_id: str) -> ASGIApp:
    """The application. Its lifespan listens to the preloaded engines, and ends all engines."""

    @lru_cache(maxsize=_MAX_TEXTS)
    def text_of(model_id: str) -> ModelText:
        return ModelText.read(pool.entry(model_id))

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await pool.attach()
        try:
            yield
        finally:
            await pool.close()

    metrics = Metrics(lambda: {model_id: engine.stats for model_id, engine in pool.engines.items()})
    context = Context(
        pool=pool,
        text_of=text_of,
        generator=Generator(pool, text_of, metrics),
        metrics=metrics,
        instance_id=instance_id,
        heartbeat_seconds=settings.heartbeat_seconds,
        asks_for_key=bool(settings.api_key),
    )
    app = Litestar(
        route_handlers=[handler for room in _ROOMS for handler in room.routes(context)],
        lifespan=[lifespan],
        exception_handlers={OmlxError: on_omlx_error, HTTPException: on_http_exception, Exception: on_bug},
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,
        logging_config=None,
    )
    return Guard(app, api_key=settings.api_key, allowed_host=settings.host)
