"""Starting a probe or a benchmark, and reading what it found."""

from __future__ import annotations

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler

from .checks import CheckKind
from .context import AdminContext, answer_with, decoded


class StartCheck(msgspec.Struct, frozen=True):
    kind: CheckKind
    model: str


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    checks = context.checks

    @get("/api/checks")
    async def get_checks() -> Response[bytes]:
        return answer_with(checks.last)

    @post("/api/checks", status_code=202)
    async def start_check(request: Request) -> Response[bytes]:
        wanted = await decoded(request, StartCheck)
        return answer_with(checks.start(wanted.kind, context.server.pool.entry(wanted.model).id), 202)

    @delete("/api/checks", status_code=200)
    async def cancel_check() -> Response[bytes]:
        await checks.cancel()
        return answer_with(checks.last)

    return [get_checks, start_check, cancel_check]
