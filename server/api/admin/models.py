"""The models: what they are, what is set for them, loading and unloading, and getting rid of one."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from ...errors import Conflict, InvalidRequest, SettingsError
from ...models.catalog import ENCODERS, ModelEntry
from ...models.folder_watch import rescan
from ...models.hub import read_source
from ...models.mtp import MtpReport, mtp_report
from ...requests import Json
from ...settings.keys import nearest
from ...settings.values import ModelSettings
from .context import AdminContext, answer_with, decoded, log_change

logger = logging.getLogger(__name__)


class ModelView(msgspec.Struct, frozen=True):
    """`state` is unloaded, loading, loaded or failed, and `failure` why; `context_window` is the one in force, in
    tokens: what is set, else what the model declares, cut to what memory holds. `is_ours` says that the model lies in
    omlx's own folder, or that omlx downloaded it: it may be deleted."""

    id: str
    kind: str
    architecture: str
    quantization: str | None
    size_bytes: int
    declared_context_window: int
    context_window: int
    state: str
    failure: str | None
    num_running: int
    num_waiting: int
    memory_bytes: int
    cache_bytes: int
    is_ours: bool
    settings: ModelSettings
    mtp_compatible: bool
    mtp_compatibility_reason: str | None


class Deleted(msgspec.Struct, frozen=True):
    deleted: str


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    pool = context.server.pool

    @get("/api/models")
    async def list_models() -> Response[bytes]:
        return answer_with(await asyncio.to_thread(views, context))

    @get("/api/models/{model_id:path}")
    async def get_model(model_id: FromPath[str]) -> Response[bytes]:
        entry = pool.entry(_plain(model_id))
        return answer_with(await asyncio.to_thread(view, context, entry))

    @put("/api/models/{model_id:path}")
    async def change_model(request: Request, model_id: FromPath[str]) -> Response[bytes]:
        entry = pool.entry(_plain(model_id))
        change(context, entry.id, await decoded(request, dict[str, Any]))
        return answer_with(await asyncio.to_thread(view, context, entry))

    @delete("/api/models/{model_id:path}", status_code=200)
    async def delete_model(model_id: FromPath[str]) -> Response[bytes]:
        entry = pool.entry(_plain(model_id))
        if not is_ours(context, entry):
            raise Conflict(
                f"{entry.id} lies outside omlx's own folder, and omlx did not download it; remove {entry.path} yourself"
            )
        await pool.unload(entry.id)
        await asyncio.to_thread(shutil.rmtree, entry.path)
        logger.info("Deleted %s, as asked", entry.id)
        await rescan(pool, context.settings.model_dirs)
        return answer_with(Deleted(entry.id))

    @put("/api/loaded/{model_id:path}", status_code=202)
    async def load_model(model_id: FromPath[str]) -> Response[bytes]:
        entry = pool.entry(_plain(model_id))
        if entry.id not in pool.engines:
            logger.info("Loading %s, as asked", entry.id)
        await pool.load(entry.id)
        return answer_with(await asyncio.to_thread(view, context, entry), 202)

    @delete("/api/loaded/{model_id:path}", status_code=200)
    async def unload_model(model_id: FromPath[str]) -> Response[bytes]:
        entry = pool.entry(_plain(model_id))
        await pool.unload(entry.id)
        return answer_with(await asyncio.to_thread(view, context, entry))

    return [list_models, get_model, change_model, delete_model, load_model, unload_model]


def views(context: AdminContext) -> list[ModelView]:
    return [view(context, entry) for entry in context.server.pool.entries]


def view(context: AdminContext, entry: ModelEntry) -> ModelView:
    """Reads the headers of the model's weights: for a thread."""
    engine = context.server.pool.engines.get(entry.id)
    settings = context.server.model_settings.get(entry.id)
    failure = context.server.pool.failed.get(entry.id, "")
    state = "failed" if failure else "unloaded"
    if engine is not None:
        state = "loading" if engine.is_loading else "loaded" if engine.is_alive else "failed"
    report = _mtp(entry.path, entry.changed_at)
    return ModelView(
        id=entry.id,
        kind=entry.kind,
        architecture=entry.architecture,
        quantization=entry.quantization,
        size_bytes=entry.size_bytes,
        declared_context_window=entry.declared_window or entry.context_window,
        context_window=settings.window(entry.context_window),
        state=state,
        failure=failure or None,
        num_running=engine.stats.num_running if engine else 0,
        num_waiting=engine.stats.num_waiting if engine else 0,
        memory_bytes=engine.stats.memory_bytes if engine else 0,
        cache_bytes=engine.stats.cache_bytes if engine else 0,
        is_ours=is_ours(context, entry),
        settings=settings,
        mtp_compatible=report.mtp_compatible,
        mtp_compatibility_reason=report.reason or None,
    )


def change(context: AdminContext, model_id: str, changes: dict[str, Json]) -> None:
    """Set these settings of a model; null unsets one. Raises `InvalidRequest`, and `Conflict` for a name in use."""
    _check_names(context, model_id, changes)
    try:
        context.server.model_settings.change(model_id, changes)
    except SettingsError as error:
        raise InvalidRequest(str(error)) from None
    log_change(f"Settings of {model_id}", changes)


def _check_names(context: AdminContext, model_id: str, changes: Mapping[str, Json]) -> None:
    """Raises `Conflict` for an alias that would never be looked up, `InvalidRequest` for a model that can't draft."""
    entries = {entry.id: entry for entry in context.server.pool.entries}
    alias, draft = changes.get("alias"), changes.get("draft_model")
    if isinstance(alias, str) and alias != model_id and alias in entries:
        raise Conflict(f"the alias {alias!r} is another model's name, which goes first; choose another alias")
    if not isinstance(draft, str):
        return
    drafter = entries.get(context.server.model_settings.real_name(draft))
    reason = ""
    if drafter is None:
        reason = f"there is no such model{nearest(draft, entries)}"
    elif drafter.id == model_id:
        reason = "a model does not draft for itself"
    elif drafter.kind in ENCODERS or entries[model_id].kind in ENCODERS:
        reason = "encoders write no text: they neither draft nor are drafted for"
    if reason:
        raise InvalidRequest(
            f"draft_model is {draft!r}: {reason}; name a smaller model that writes text", "draft_model"
        )


def is_ours(context: AdminContext, entry: ModelEntry) -> bool:
    """Whether it lies in omlx's own folder, or omlx downloaded it to where it lies."""
    own = (context.settings.home / "models").resolve()
    is_own = own in entry.path.resolve().parents or read_source(entry.path) is not None
    return is_own and not entry.path.is_symlink()


@lru_cache(maxsize=256)
def _mtp(folder: Path, _changed: float) -> MtpReport:
    return mtp_report(folder)


def _plain(model_id: str) -> str:
    """Litestar's path parameters begin with a slash; ids may hold some."""
    return model_id.removeprefix("/")
