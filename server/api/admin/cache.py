"""The prefix cache: what each tier holds, and why the last prompts missed it."""

from __future__ import annotations

import asyncio
from datetime import date

import msgspec
from litestar import Response, delete, get
from litestar.handlers import HTTPRouteHandler

from ...cache.clearing import clear_disk, files_on_disk
from ...cache.write_ledger import read_written
from ...engine.messages import EngineStats
from ...settings.values import size_in_bytes
from .context import AdminContext, answer_with


class ModelCache(msgspec.Struct, frozen=True):
    model: str
    ram_bytes: int
    max_ram_bytes: int
    num_evicted_blocks: int
    disk_written_bytes: int


class CacheView(msgspec.Struct, frozen=True):
    """Sizes in bytes. `ram` is what the loaded models hold, and what they pushed out and wrote since they are loaded;
    `disk_bytes` is what lies in `folder`, of at most `max_disk_bytes`. `written_today_bytes` and `written_bytes` were
    written there today and in all, restarts and clearing notwithstanding."""

    is_enabled: bool
    ram: list[ModelCache]
    folder: str
    disk_bytes: int
    num_files: int
    max_disk_bytes: int
    written_today_bytes: int
    written_bytes: int
    num_queried_tokens: int
    num_cached_tokens: int


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    @get("/api/cache")
    async def get_cache() -> Response[bytes]:
        return answer_with(await view(context))

    @delete("/api/cache", status_code=200)
    async def clear_cache() -> Response[bytes]:
        settings = context.settings
        await asyncio.to_thread(clear_disk, settings.cache_folder, settings.home / "openings")
        return answer_with(await view(context))

    return [get_cache, clear_cache]


async def view(context: AdminContext) -> CacheView:
    cache, folder = context.settings.cache, context.settings.cache_folder
    on_disk = await asyncio.to_thread(files_on_disk, folder)
    written = await asyncio.to_thread(read_written, folder)
    totals = context.server.ledger.totals
    engines = context.server.pool.engines.items()
    return CacheView(
        is_enabled=cache.enabled,
        ram=[_of_model(model_id, engine.stats) for model_id, engine in engines],
        folder=str(folder),
        disk_bytes=on_disk.size_bytes,
        num_files=on_disk.num_files,
        max_disk_bytes=size_in_bytes(cache.ssd_bytes) if cache.enabled else 0,
        written_today_bytes=written.today(date.today()),
        written_bytes=written.in_all,
        num_queried_tokens=totals.num_cached_tokens + totals.num_computed_tokens,
        num_cached_tokens=totals.num_cached_tokens,
    )


def _of_model(model_id: str, stats: EngineStats) -> ModelCache:
    return ModelCache(
        model_id, stats.cache_bytes, stats.max_cache_bytes, stats.num_evicted_blocks, stats.disk_written_bytes
    )
