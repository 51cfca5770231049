"""`GET /openapi.json`: what there is to ask for. No page to browse it: that would come from other people's servers."""

from __future__ import annotations

from importlib.metadata import version

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from .admin.openapi import add_admin
from .context import Context
from .openapi_document import document


def routes(context: Context) -> list[HTTPRouteHandler]:
    @get("/openapi.json")
    async def get_document() -> Response[bytes]:
        model_ids = [entry.id for entry in context.pool.entries]
        made = document(model_ids, version("omlx"), context.asks_for_key)
        add_admin(made)
        return Response(msgspec.json.encode(made), media_type="application/json")

    return [get_document]
