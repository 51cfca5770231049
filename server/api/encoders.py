"""`POST /v1/embeddings` and `POST /v1/rerank`."""

from __future__ import annotations

from functools import lru_cache

from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from ..dialects import openai_embeddings, rerank
from ..engine.encoders import Encoders, EncoderText
from .answers import CLIENT_CLOSED_REQUEST, ClientLeft, agent_that_sent, read_body, unless_client_leaves
from .context import Context
from .failures import request_id_of

_MAX_TEXTS = 16


def routes(context: Context) -> list[HTTPRouteHandler]:
    encoders = Encoders(context.pool, lru_cache(maxsize=_MAX_TEXTS)(EncoderText.read), context.ledger)

    @post("/v1/embeddings", status_code=200)
    async def embeddings(request: Request) -> Response[bytes]:
        call = openai_embeddings.decode(await read_body(request), request_id_of(request))
        await context.find_model(call.request.model)
        try:
            found = await unless_client_leaves(request.receive, encoders.embed(call.request, agent_that_sent(request)))
        except ClientLeft:
            return Response(b"", status_code=CLIENT_CLOSED_REQUEST)
        return _json(call.encode_answer(found.vectors, found.num_tokens))

    @post("/v1/rerank", status_code=200)
    async def rerank_documents(request: Request) -> Response[bytes]:
        call = rerank.decode(await read_body(request), request_id_of(request))
        await context.find_model(call.request.model)
        try:
            found = await unless_client_leaves(request.receive, encoders.rerank(call.request, agent_that_sent(request)))
        except ClientLeft:
            return Response(b"", status_code=CLIENT_CLOSED_REQUEST)
        return _json(call.encode_answer(found.vectors, found.num_tokens))

    return [embeddings, rerank_documents]


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type="application/json")
