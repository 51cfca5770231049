"""Logging in and out: `login` opens a session, `session` is one's own, `sessions` are all of them."""

from __future__ import annotations

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler

from ...errors import Unauthorized
from .access import cookie
from .browsers import browser_of
from .context import AdminContext, answer_with, decoded
from .sessions import Session


class LogIn(msgspec.Struct, frozen=True):
    """The admin key, as `omlx key admin` printed it."""

    key: str


class SessionView(msgspec.Struct, frozen=True):
    """`csrf` goes into the header x-csrf-token of each change; only one's own session tells it."""

    session_id: str
    agent: str
    created_at: float
    last_used_at: float
    csrf: str | None = None


class Ended(msgspec.Struct, frozen=True):
    num_ended: int


def open_routes(context: AdminContext) -> list[HTTPRouteHandler]:
    """Those that nobody needs to be logged in for."""
    access = context.access

    @post("/api/login", status_code=200)
    async def log_in(request: Request) -> Response[bytes]:
        given = await decoded(request, LogIn)
        token, session = access.log_in(given.key, browser_of(request.headers.get("user-agent", "")), request)
        response = answer_with(_view(session, own=True))
        response.headers["set-cookie"] = cookie(token)
        return response

    return [log_in]


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    access = context.access

    @get("/api/session")
    async def get_session(request: Request) -> Response[bytes]:
        session = access.session_of(request)
        if session is None:
            raise Unauthorized("this request has a key and no session; POST /admin/api/login opens one")
        return answer_with(_view(session, own=True))

    @delete("/api/session", status_code=200)
    async def log_out(request: Request) -> Response[bytes]:
        session = access.session_of(request)
        response = answer_with(Ended(access.sessions.end(session.session_id) if session else 0))
        response.headers["set-cookie"] = cookie("")
        return response

    @get("/api/sessions")
    async def list_sessions() -> Response[bytes]:
        return answer_with([_view(session) for session in access.sessions.live()])

    @delete("/api/sessions", status_code=200)
    async def end_all() -> Response[bytes]:
        return answer_with(Ended(access.sessions.end()))

    return [get_session, log_out, list_sessions, end_all]


def _view(session: Session, own: bool = False) -> SessionView:
    return SessionView(
        session.session_id, session.agent, session.created_at, session.last_used_at, session.csrf if own else None
    )
