"""Sends an answer: as a stream of server-sent events, or collected into one body."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import replace
from time import monotonic
from typing import Any, TypeVar

from litestar import Request, Response
from litestar.exceptions import InternalServerException
from litestar.types import Receive, Scope, Send

from ..dialects.base import Call, Dialect, Encoder, collect
from ..engine.generation import Generation, Generator
from ..engine.several import GenerationGroup
from ..errors import EngineFailure, InvalidRequest, OmlxError, RequestError, ShuttingDown
from ..events import Delta, Event, Finished, PrefillProgress
from ..http_protocol import BODY_WRITER, BodyWriter
from ..json_size import JsonSize
from ..requests import GenerationRequest
from .agents import agent_of
from .body_budget import release_body
from .context import Context
from .failures import holder_of, request_id_of
from .keys import caller_of

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""A stream begins at the latest so long after its request was handed to the engine, which may be busy for longer."""
CLIENT_CLOSED_REQUEST = 499  # nginx's code; it reaches nobody but the log
_SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

T = TypeVar("T")


class ClientLeft(Exception):
    """The client closed the connection first; whatever is answered now reaches nobody."""


async def read_body(request: Request) -> bytes:
    """The whole body, which nobody else keeps. Raises `InvalidRequest` for one of more values than can be decoded while
    others wait, and `ShuttingDown` when the server stops before it has come."""
    size, pieces = JsonSize(), list[bytes]()
    try:
        async for piece in request.stream():  # `request.body()` would stay to the answer's end
            size.feed(piece)
            pieces.append(piece)
        return b"".join(pieces)
    except InternalServerException:  # Litestar's word for a client that has gone: nobody reads this
        raise InvalidRequest("the connection closed before the whole body had come") from None
    except asyncio.CancelledError:  # only the end of the server's grace cancels a handler
        raise ShuttingDown() from None


def agent_that_sent(request: Request, launched: str = "") -> str:
    return agent_of(holder_of(request).name, request.headers.get("user-agent", ""), launched)


async def answer(request: Request, dialect: Dialect, context: Context) -> Response:
    """Decode the body, generate, and send what the client asked for.

    Errors before the first byte are raised; the exception handlers give them the dialect's shape.
    """
    generator, request_id = context.generator, request_id_of(request)
    caller = caller_of(request.headers)
    agent = agent_that_sent(request, generator.launched_agent(caller))
    body = await read_body(request)
    call = dialect.decode(body, request_id)
    asked = replace(call.request, caller=caller, cache_salt=holder_of(request).namespace, num_bytes=len(body))
    del body
    await context.find_model(asked.model)
    try:
        if call.stream:
            generation = await unless_client_leaves(request.receive, generator.start(asked, agent, PATIENCE_SECONDS))
            if not call.keeps_body:
                release_body(request)
            return EventStream(generation, call.encoder(), request_id, context.heartbeat_seconds)
        whole = await unless_client_leaves(request.receive, _whole_answer(call, asked, generator, agent))
        return Response(whole, media_type="application/json")
    except ClientLeft:
        return Response(b"", status_code=CLIENT_CLOSED_REQUEST)
    except RequestError as error:
        if error.param == "messages":  # the pipeline's word for what it makes a prompt of
            error.param = dialect.PROMPT_FIELD
        raise


class EventStream(Response[None]):
    """Streams one generation, and ends it whichever way the stream ends.

    Litestar's own `Stream` leaves its iterator unclosed when the client has gone before the first byte.
    """

    def __init__(
        self, generation: Generation | GenerationGroup, encoder: Encoder, request_id: str, heartbeat_seconds: float
    ) -> None:
        super().__init__(None)
        self._generation = generation
        self._encoder = encoder
        self._request_id = request_id
        self._heartbeat_seconds = heartbeat_seconds
        self._last_sent = monotonic()
        self._writer: BodyWriter
        """From `_respond` on."""

    def to_asgi_response(self, *_: object, **__: object) -> Any:
        return self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._writer = scope["state"][BODY_WRITER]
        with contextlib.closing(self._generation), contextlib.suppress(ClientLeft):
            await unless_client_leaves(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _SSE_HEADERS})
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(self._beat())
            try:
                await self._send_events(send)
            finally:
                beating.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, send: Send) -> None:
        """The stream's records; an error of the engine becomes the protocol's error event."""
        encoder = self._encoder
        try:
            await self._send_records(send, encoder.start(self._generation.usage))
            while not self._generation.is_finished:
                events = await self._generation.next(self)
                await self._send_records(send, self._records_of(events))
        except OmlxError as error:
            await self._send_records(send, encoder.error(error))
        except Exception:  # headers are sent: what is left is the protocol's error event, and the log
            logger.exception("request %s: a stream failed", self._request_id)
            failure = EngineFailure("internal error; the server's log has the details")
            await self._send_records(send, encoder.error(failure))

    @property
    def is_open(self) -> bool:
        """Whether `write` may be called: the client reads what is sent."""
        return self._writer.is_open

    def write(self, events: list[Event]) -> None:
        """Send the records of a step, with no task in between."""
        self._write(self._records_of(events))

    def _records_of(self, events: list[Event]) -> bytes:
        records = b""
        for event in events:
            records += self._encoder.finish(event) if isinstance(event, Finished) else self._encoder.feed(event)
        return records

    async def _send_records(self, send: Send, records: bytes) -> None:
        if self.is_open:
            self._write(records)
        elif records:
            self._last_sent = monotonic()
            await send({"type": "http.response.body", "body": records, "more_body": True})

    def _write(self, records: bytes) -> None:
        if records:
            self._last_sent = monotonic()
            self._writer.write(records)

    async def _beat(self) -> None:
        """Say that the stream lives wherever it has been silent, to a client that has read what came before: one timer,
        where one a token would cost more."""
        while True:
            await asyncio.sleep(self._last_sent + self._heartbeat_seconds - monotonic())
            if monotonic() >= self._last_sent + self._heartbeat_seconds:
                self._last_sent = monotonic()
                if self.is_open:
                    self._write(self._encoder.heartbeat())


async def _whole_answer(call: Call, asked: GenerationRequest, generator: Generator, agent: str) -> bytes:
    generation = await generator.start(asked, agent)
    deltas: list[Delta] = []
    with contextlib.closing(generation):
        while True:
            for event in await generation.next():
                if isinstance(event, Finished):
                    return call.encode_answer(collect(deltas, event))
                if not isinstance(event, PrefillProgress):
                    deltas.append(event)


async def unless_client_leaves(receive: Receive, work: Coroutine[object, object, T]) -> T:
    """The result of `work`, which is cancelled when the client disconnects first (`ClientLeft`).

    ASGI servers don't cancel a handler whose client has gone: the disconnect message has to be awaited.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        leaving.cancel()
        if working.cancel():
            await asyncio.wait({working})
        del working  # an error's traceback holds this frame, which would hold the error, and all of the request with it


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
