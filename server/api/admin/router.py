"""All of `/admin` as routes: the open ones, and those behind the admin key."""

from __future__ import annotations

from litestar import Router
from litestar.datastructures import MutableScopeHeaders
from litestar.handlers import BaseRouteHandler
from litestar.types import Message, Scope

from ..guard import ADMIN_PATH
from . import cache, chat, check_routes, download_routes, keys, models, pages, session, settings, status
from .access import Connection
from .context import AdminContext

_ROOMS = (session, models, download_routes, status, cache, settings, keys, check_routes, chat)
_MAX_BODY_BYTES = 1 << 20
"""Of all routes but the chat's: the log-in reads a body before it knows who sent it."""
_CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def routes(context: AdminContext) -> list[Router]:
    def guard(connection: Connection, _: BaseRouteHandler) -> None:
        context.access.check(connection)  # a function, for Litestar would copy a bound method with all it is bound to

    opened = [*session.open_routes(context), *pages.open_routes(context)]
    guarded = [handler for room in _ROOMS for handler in room.routes(context)]
    largest = min(_MAX_BODY_BYTES, context.settings.max_body_bytes)
    return [
        Router("/admin", route_handlers=opened, request_max_body_size=largest),
        Router("/admin", route_handlers=guarded, guards=[guard], request_max_body_size=largest),
    ]


async def secure(message: Message, scope: Scope) -> None:
    """Put the pages' policy on every answer under `/admin`, errors too: a hook before the application sends."""
    path = scope["path"]
    if message["type"] == "http.response.start" and (path == ADMIN_PATH or path.startswith(f"{ADMIN_PATH}/")):
        headers = MutableScopeHeaders.from_message(message)
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
