"""`POST /v1/launches`: an agent is about to come, with the key of this request. `GET /v1/launches/{id}`: has it?"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from ..engine.openings import Launch
from ..errors import InvalidRequest, NotFound
from .answers import read_body
from .context import Context
from .failures import holder_of
from .keys import caller_of


class Body(msgspec.Struct, frozen=True):
    """The agent's name, which is none of a path's, and the model it is wired to."""

    agent: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}(?!\n)$")]  # `$` lets a last newline through
    model: str


class LaunchObject(msgspec.Struct, frozen=True):
    """`num_requests` came with the launch's key. Of the `num_opening_tokens` known from the agent's last launch
    `num_cached_tokens` had been kept."""

    id: str
    agent: str
    model: str
    state: Literal["loading", "ready", "failed"]
    error: str
    num_requests: int
    num_opening_tokens: int
    num_cached_tokens: int


def routes(context: Context) -> list[HTTPRouteHandler]:
    @post("/v1/launches", status_code=200)
    async def announce(request: Request) -> Response[bytes]:
        caller = caller_of(request.headers)
        if not caller:
            raise InvalidRequest("send the key that the agent will come with as Authorization: Bearer")
        try:
            body = msgspec.json.decode(await read_body(request), type=Body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"the body is no launch: {error}") from None
        await context.find_model(body.model)
        namespace = holder_of(request).namespace
        return _described(context.openings.announce(body.agent, body.model, caller, namespace))

    @get("/v1/launches/{launch_id:str}")
    async def get_launch(launch_id: FromPath[str]) -> Response[bytes]:
        launch = context.openings.find(launch_id)
        if launch is None:
            raise NotFound(f"no launch {launch_id!r}; only the latest are remembered, until the server ends")
        return _described(launch)

    return [announce, get_launch]


def _described(launch: Launch) -> Response[bytes]:
    told = LaunchObject(
        id=launch.id,
        agent=launch.agent,
        model=launch.model,
        state="failed" if launch.error else "ready" if launch.is_loaded else "loading",
        error=launch.error,
        num_requests=launch.num_requests,
        num_opening_tokens=launch.num_opening_tokens,
        num_cached_tokens=launch.num_cached_tokens,
    )
    return Response(msgspec.json.encode(told), media_type="application/json")
