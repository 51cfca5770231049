"""The only wiring: settings and a catalog in, an ASGI application out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache

from litestar import Litestar
from litestar.exceptions import HTTPException

from .api import completions, encoders, health, launches, messages, models, openapi, responses
from .api.admin.context import AdminContext
from .api.admin.router import routes as admin_routes
from .api.admin.router import secure
from .api.body_budget import BodyBudget
from .api.context import Context
from .api.failures import identify, on_bug, on_http_exception, on_model_error, on_omlx_error
from .api.guard import Guard
from .api.keys import KEY_FILE, ServerKeys
from .api.refusals import Refusals
from .engine.generation import Generator
from .engine.ledger import RequestLedger
from .engine.model_text import ModelText
from .engine.openings import Openings
from .engine.process import EngineProcess
from .errors import ModelError, OmlxError
from .log_ring import LogRing
from .metrics import Metrics
from .models.folder_watch import FolderWatch
from .models.pool import ModelPool
from .settings import ServeSettings
from .settings.model_store import ModelSettingsStore
from .settings.values import ModelSettings

_ROOMS = (completions, responses, messages, encoders, models, launches, health, openapi)
_MAX_TEXTS = 16
_LARGEST_BODIES = 4
"""What the memory has room for: so many bodies as large as they may be."""
_CHECK_SECONDS = 5.0


def create_app(
    settings: ServeSettings,
    pool: ModelPool[EngineProcess],
    instance_id: str,
    model_settings: ModelSettingsStore | None = None,
    logs: LogRing | None = None,
) -> Guard:
    """The application. Its lifespan listens to the preloaded engines, and ends all engines.

    `model_settings` are those of the settings' file unless given; `logs` has what was logged before.
    """
    model_settings = model_settings or ModelSettingsStore(settings.settings_file)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await pool.attach()
        await folder_watch.look()  # before anybody is served: what comes from then on is news
        watches = [_check(pool, settings.engine.stall_seconds), folder_watch.follow(), _tell(refusals, keys)]
        watching = [asyncio.create_task(watch) for watch in watches]
        try:
            async with admin.at_work():
                yield
        finally:
            for watch in watching:
                watch.cancel()
            refusals.tell(all_of_them=True)
            openings.close()
            await pool.close()

    openings = Openings(pool, settings.home / "openings" if settings.cache.enabled else None)
    text_of = _texts(pool, model_settings)
    folder_watch = FolderWatch(pool, settings.model_dirs, model_settings.real_name)
    keys = ServerKeys(settings.api_key, settings.home / KEY_FILE, may_be_open=settings.is_loopback)
    refusals = Refusals()
    metrics = Metrics(lambda: {model_id: engine.stats for model_id, engine in pool.engines.items()})
    ledger = RequestLedger(metrics)
    context = Context(
        pool=pool,
        model_settings=model_settings,
        find_model=folder_watch.find,
        text_of=text_of,
        generator=Generator(pool, text_of, ledger, openings),
        openings=openings,
        metrics=metrics,
        ledger=ledger,
        cache_folder=settings.cache_folder,
        instance_id=instance_id,
        heartbeat_seconds=settings.heartbeat_seconds,
        asks_for_key=not keys.is_open,
    )
    admin = AdminContext.of(context, settings, keys, logs or LogRing(), refusals)
    app = Litestar(
        route_handlers=[*(handler for room in _ROOMS for handler in room.routes(context)), *admin_routes(admin)],
        lifespan=[lifespan],
        exception_handlers={
            ModelError: on_model_error,
            OmlxError: on_omlx_error,
            HTTPException: on_http_exception,
            Exception: on_bug,
        },
        request_max_body_size=settings.max_body_bytes,
        before_send=[secure, identify],
        openapi_config=None,
        logging_config=None,
    )
    bounded = BodyBudget(app, _LARGEST_BODIES * settings.max_body_bytes)
    return Guard(bounded, keys=keys, allowed_host=settings.host, refusals=refusals)


def _texts(pool: ModelPool[EngineProcess], model_settings: ModelSettingsStore) -> Callable[[str], ModelText]:
    """A model's text side by id or alias, under the settings of this moment."""

    @lru_cache(maxsize=_MAX_TEXTS)
    def read(model_id: str, changed_at: float) -> ModelText:
        del changed_at  # another model may have come into the folder
        return ModelText.read(pool.entry(model_id))

    @lru_cache(maxsize=_MAX_TEXTS)
    def configured(model_id: str, changed_at: float, settings: ModelSettings) -> ModelText:
        return read(model_id, changed_at).configured(settings)

    read_at: dict[str, float] = {}

    def text_of(name: str) -> ModelText:
        entry = pool.entry(name)
        changed_at = entry.changed_at or read_at.get(entry.id, 0.0)  # a loaded model goes on without its folder
        text = configured(entry.id, changed_at, model_settings.get(entry.id))
        read_at[entry.id] = changed_at
        return text

    return text_of


async def _check(pool: ModelPool[EngineProcess], stall_seconds: float) -> None:
    """From time to time: end the engines that nobody needs, and those that are stuck."""
    while True:
        await asyncio.sleep(min(_CHECK_SECONDS, stall_seconds))
        pool.check_silence(stall_seconds)
        await pool.unload_idle()


async def _tell(refusals: Refusals, keys: ServerKeys) -> None:
    """From time to time: have the log say who was refused, and which keys were made or ended."""
    while True:
        await asyncio.sleep(_CHECK_SECONDS)
        refusals.tell()
        keys.read_anew()
