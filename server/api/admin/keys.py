"""The keys: whose they are and their last characters, never a key. `omlx key new` makes one; here one can be ended."""

from __future__ import annotations

from litestar import Response, delete, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from ...errors import Conflict, InvalidRequest, NotFound
from ..keys import ADMIN
from .command_line import run_omlx
from .context import AdminContext, answer_with


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    @get("/api/keys")
    async def get_keys() -> Response[bytes]:
        return answer_with(context.keys.described())

    @delete("/api/keys/{name:str}", status_code=200)
    async def revoke_key(name: FromPath[str]) -> Response[bytes]:
        scopes = {key.name: key.scope for key in context.keys.described()}
        if name not in scopes:
            raise NotFound(f"there is no key {name!r}")
        if scopes[name] == ADMIN:
            raise Conflict(
                "without the admin key nobody opens these pages; `omlx key admin` makes a new one and ends it"
            )
        ran = await run_omlx(context.settings.home, "key", "revoke", name, "--json")
        if ran.status:
            raise InvalidRequest(ran.errors.strip().removeprefix("omlx: "))
        return answer_with(context.keys.described())

    return [get_keys, revoke_key]
