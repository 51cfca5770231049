"""`POST /v1/chat/completions` and `POST /v1/completions`."""

from __future__ import annotations

from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from ..dialects import openai_chat, openai_completions
from .answers import answer
from .context import Context


def routes(context: Context) -> list[HTTPRouteHandler]:
    @post("/v1/chat/completions", status_code=200)
    async def chat_completions(request: Request) -> Response:
        return await answer(request, openai_chat, context)

    @post("/v1/completions", status_code=200)
    async def completions(request: Request) -> Response:
        return await answer(request, openai_completions, context)

    return [chat_completions, completions]
