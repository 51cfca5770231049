"""`POST /v1/responses`, and `GET` and `DELETE /v1/responses/{id}` for those that were stored."""

from __future__ import annotations

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from ..dialects.openai_response_store import ResponseStore
from ..dialects.openai_responses import ResponsesDialect
from ..errors import NotFound
from .answers import answer
from .context import Context
from .failures import holder_of


def routes(context: Context) -> list[HTTPRouteHandler]:
    store = ResponseStore()
    dialect = ResponsesDialect(store)

    @post("/v1/responses", status_code=200)
    async def responses(request: Request) -> Response:
        own = dialect.of(holder_of(request).namespace)
        return await answer(request, own, context)

    @get("/v1/responses")
    async def refuse_web_socket() -> Response[bytes]:
        # Codex asks for a WebSocket first; this status makes it go on over HTTP at once.
        return Response(b"", status_code=426, headers={"upgrade": "HTTP/1.1"})

    @get("/v1/responses/{response_id:str}")
    async def get_response(request: Request, response_id: FromPath[str]) -> Response[bytes]:
        stored = store.get(response_id, holder_of(request).namespace)
        if stored is None:
            raise _not_found(response_id)
        return Response(stored.body, media_type="application/json")

    @delete("/v1/responses/{response_id:str}", status_code=200)
    async def delete_response(request: Request, response_id: FromPath[str]) -> Response[bytes]:
        if not store.delete(response_id, holder_of(request).namespace):
            raise _not_found(response_id)
        body = {"id": response_id, "object": "response.deleted", "deleted": True}
        return Response(msgspec.json.encode(body), media_type="application/json")

    return [responses, refuse_web_socket, get_response, delete_response]


def _not_found(response_id: str) -> NotFound:
    return NotFound(f"no response {response_id!r} is stored; send store: true, and come back before it is pushed out")
