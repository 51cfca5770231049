"""`POST /v1/messages` and `POST /v1/messages/count_tokens`.

Clients are given their base URL with or without `/v1`, or with `/anthropic`; every spelling works.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from ..dialects import anthropic_messages
from .answers import CLIENT_CLOSED_REQUEST, ClientLeft, answer, read_body, unless_client_leaves
from .context import Context
from .failures import holder_of, request_id_of

_PATHS = ["/v1/messages", "/v1/v1/messages", "/anthropic/v1/messages"]


def routes(context: Context) -> list[HTTPRouteHandler]:
    @post(_PATHS, status_code=200)
    async def messages(request: Request) -> Response:
        return await answer(request, anthropic_messages, context)

    @post([f"{path}/count_tokens" for path in _PATHS], status_code=200)
    async def count_tokens(request: Request) -> Response[bytes]:
        body = await read_body(request)
        counted = anthropic_messages.decode_count_tokens(body, request_id_of(request))
        asked = replace(counted, cache_salt=holder_of(request).namespace, num_bytes=len(body))
        await context.find_model(asked.model)
        try:
            num_tokens = await unless_client_leaves(request.receive, context.generator.count_tokens(asked))
        except ClientLeft:
            return Response(b"", status_code=CLIENT_CLOSED_REQUEST)
        return Response(msgspec.json.encode({"input_tokens": num_tokens}), media_type="application/json")

    return [messages, count_tokens]
