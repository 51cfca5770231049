"""Nothing is written into the middle of an answer, whatever comes behind its request."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from litestar.types import ASGIApp, Receive, Scope, Send

from omlx.server import http_protocol
from omlx.server.http_server import HttpServer
from omlx.server.serving import listen

from .test_http_limits import HOST
from .test_refused_requests import POST, read

FIRST = b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = POST % (b"/second", b"Content-Length: 9\r\n")
PIECES = b"5\r\nfirst\r\n", b"6\r\nsecond\r\n0\r\n\r\n"


class Scripted:
    """An application whose first answer pauses in its middle until `goes_on`. Before that it reads its request, if it
    `reads`, which lets the next one come."""

    def __init__(self, *, reads: bool = True, waits: bool = False) -> None:
        self._reads, self._waits = reads, waits
        self.goes_on = asyncio.Event()
        self.has_heard = asyncio.Event()
        """That its client has left; for that it `waits`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if self._reads:
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/first":
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            if self._waits:
                assert (await receive())["type"] == "http.disconnect"
                self.has_heard.set()
            await self.goes_on.wait()
        await send({"type": "http.response.body", "body": b"second", "more_body": False})


@asynccontextmanager
async def scripted(app: Scripted) -> AsyncIterator[int]:
    """Its port."""
    listener = listen("127.0.0.1", 0)
    server = HttpServer(cast("ASGIApp", app), lambda: None, lambda: None, 0.1)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(120):
            yield listener.getsockname()[1]
    finally:
        app.goes_on.set()
        server.should_exit = True
        await running


async def timed_out(port: int) -> None:
    """Return once a connection of which nothing comes has been refused: the clocks that began before have run out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await reader.read()).startswith(b"HTTP/1.1 408")
    writer.close()


@pytest.fixture(autouse=True)
def _short_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 1.0)


@pytest.mark.parametrize(
    ("behind", "status"),
    [
        (b"GET /second HT", 408),
        (BODY + b"{", 408),
        (b"GET /second HTTP/1.1\r\nX-Long: " + b"x" * 140_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET ftp://localhost/ HTTP/1.1\r\n\r\n", 400),
        (BODY.replace(b"Content-Length: 9", b"Transfer-Encoding: chunked") + b"zz\r\n", 400),
    ],
    ids=["half a head", "half a body", "a large head", "no http", "no path", "no chunk"],
)
async def test_a_refusal_waits_for_the_answer_under_way(behind: bytes, status: int):
    app = Scripted()
    async with scripted(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FIRST + behind)
        await reader.readuntil(b"\r\n\r\n")
        first = await reader.readexactly(len(PIECES[0]))
        await timed_out(port)
        app.goes_on.set()
        rest = await reader.read()
        writer.close()
    assert first == PIECES[0]
    assert rest.startswith(PIECES[1])
    assert read(rest.removeprefix(PIECES[1]))[0] == status


async def test_requests_that_came_whole_are_answered_before_the_one_that_is_refused():
    app = Scripted()
    second = FIRST.replace(b"first", b"second")
    async with scripted(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FIRST + second + second + BODY + b"{")
        await reader.readuntil(PIECES[0])
        await timed_out(port)
        app.goes_on.set()
        rest = await reader.read()
        writer.close()
    *answers, refusal = rest.split(b"HTTP/1.1 ")
    assert [answer.endswith(PIECES[1]) for answer in answers] == [True] * 3
    assert read(b"HTTP/1.1 " + refusal)[0] == 408


async def test_a_request_that_is_not_read_while_it_waits_for_its_turn_is_not_late(monkeypatch: pytest.MonkeyPatch):
    app = Scripted(reads=False)
    async with scripted(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FIRST + BODY + b"{")
        await reader.readuntil(PIECES[0])
        writer.write(b"}       ")
        await timed_out(port)
        monkeypatch.setattr(http_protocol, "BODY_SECONDS", 60.0)  # from its turn on
        app.goes_on.set()
        await reader.readuntil(PIECES[1])
        answer = await reader.readuntil(PIECES[1])
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200")


async def test_the_answer_under_way_hears_that_its_client_has_left_although_another_request_came_behind_it():
    app = Scripted(waits=True)
    async with scripted(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FIRST + BODY)
        await reader.readuntil(PIECES[0])
        writer.close()
        await app.has_heard.wait()


async def test_a_connection_that_was_reset_is_kept_by_no_clock(monkeypatch: pytest.MonkeyPatch):
    """An idle one may stay for 75 seconds: many that come and go would be that many in memory."""
    lost = asyncio.Event()
    seen: list[http_protocol.BoundedHttpProtocol] = []
    connection_lost = http_protocol.BoundedHttpProtocol.connection_lost

    def note(protocol: http_protocol.BoundedHttpProtocol, error: Exception | None) -> None:
        connection_lost(protocol, error)
        assert error is not None
        seen.append(protocol)
        lost.set()

    monkeypatch.setattr(http_protocol.BoundedHttpProtocol, "connection_lost", note)
    async with scripted(Scripted()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FIRST.replace(b"first", b"second"))
        await reader.readuntil(b"0\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await lost.wait()
        assert seen[0].timeout_keep_alive_task is None
