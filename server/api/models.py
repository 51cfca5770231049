"""`GET /v1/models` and `GET /v1/models/{id}`; ids may hold slashes."""

from __future__ import annotations

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from ..models.catalog import ModelEntry
from .context import Context


class ModelDetails(msgspec.Struct, frozen=True):
    """omlx's own words about a model; `size_bytes` is that of its weights."""

    kind: str
    architecture: str
    size_bytes: int
    is_loaded: bool


class ModelObject(msgspec.Struct, frozen=True):
    """OpenAI's model object; `max_model_len` (vLLM's name) is the window in tokens."""

    id: str
    created: int
    max_model_len: int
    omlx: ModelDetails
    object: str = "model"
    owned_by: str = "omlx"


class ModelList(msgspec.Struct, frozen=True):
    data: list[ModelObject]
    object: str = "list"


def routes(context: Context) -> list[HTTPRouteHandler]:
    def describe(entry: ModelEntry) -> ModelObject:
        engine = context.pool.engines.get(entry.id)
        details = ModelDetails(entry.kind, entry.architecture, entry.size_bytes, engine is not None and engine.is_alive)
        return ModelObject(entry.id, int(entry.path.stat().st_mtime), entry.context_window, details)

    @get("/v1/models")
    async def list_models() -> Response[bytes]:
        return _json(ModelList([describe(entry) for entry in context.pool.entries]))

    @get("/v1/models/{model_id:path}")
    async def get_model(model_id: FromPath[str]) -> Response[bytes]:
        return _json(describe(context.pool.entry(model_id.removeprefix("/"))))

    return [list_models, get_model]


def _json(value: msgspec.Struct) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type="application/json")
