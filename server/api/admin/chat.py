"""The chat page's own way to a model: the route of OpenAI's Chat Completions, opened by the session."""

from __future__ import annotations

from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from ...dialects import openai_chat
from ..answers import answer
from ..failures import HOLDER
from ..keys import Holder
from .context import AdminContext


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    server = context.server

    @post("/api/chat", status_code=200, request_max_body_size=context.settings.max_body_bytes)
    async def chat(request: Request) -> Response:
        request.scope["state"][HOLDER] = Holder("chat", "the chat page")
        return await answer(request, openai_chat, server)

    return [chat]
