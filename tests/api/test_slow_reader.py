"""A client that reads slowly, or not at all, costs neither memory nor anybody else's time, and is dropped at last."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from litestar import Request

from omlx.server import http_protocol
from omlx.server.http_protocol import BoundedHttpProtocol, num_unread
from omlx.server.requests import GenerationRequest

from ..waiting import until
from .serving import MODEL, Serving, serving
from .test_server import CHAT, CHAT_BODY, num_running, streamed_text

ANSWER = "word " * 1500
"""A token a byte, and some 200 bytes of events each: far more than all buffers on the way hold."""
SMALL_BUFFER = 4096
MOST_WAITING = 128 << 10
"""Bytes. A transport asks for a pause at half of it."""


async def test_clients_that_do_not_read_hold_up_nobody_take_little_and_lose_nothing(tmp_path: Path):
    async with serving(tmp_path, ANSWER, context_window=20_000, send_buffer_bytes=SMALL_BUFFER) as server:
        slow = [await unread_stream(server) for _ in range(4)]
        await until(lambda: num_leases(server) == 4)
        received = ""
        async with server.client.stream("POST", CHAT, json={**CHAT_BODY, "stream": True}) as response:
            async for piece in response.aiter_text():
                received += piece  # to the end, while nobody reads the others
        assert streamed_text(CHAT, received) == ANSWER
        await until(lambda: num_running(server) == 0)
        waiting = [connection.transport.get_write_buffer_size() for connection in connections(server)]
        assert len([size for size in waiting if size]) == 4
        assert max(waiting) < MOST_WAITING
        for client in slow:
            assert streamed_text(CHAT, await asyncio.to_thread(_everything, client)) == ANSWER


async def test_a_client_that_reads_nothing_for_long_is_dropped_and_its_model_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_protocol, "UNREAD_SECONDS", 1.0)
    async with serving(tmp_path, ANSWER, context_window=20_000, send_buffer_bytes=SMALL_BUFFER) as server:
        with await unread_stream(server):
            await until(lambda: num_leases(server) == 1)
            other = await server.client.post(CHAT, json={**CHAT_BODY, "stream": True})
            await until(lambda: num_leases(server) == 0)
        assert streamed_text(CHAT, other.text) == ANSWER
        assert await server.pool.unload(MODEL)


async def test_a_client_that_has_read_anything_meanwhile_is_kept(tmp_path: Path):
    async with serving(tmp_path, ANSWER, context_window=20_000, send_buffer_bytes=SMALL_BUFFER) as server:
        client = await unread_stream(server)
        await until(lambda: any(connection.flow.write_paused for connection in connections(server)))
        (connection,) = (each for each in connections(server) if each.flow.write_paused)
        before = num_unread(connection.transport)
        received = b""
        while num_unread(connection.transport) >= before:
            received += await asyncio.to_thread(client.recv, SMALL_BUFFER)
            await asyncio.sleep(0.01)
        connection._look_for_reader(before)
        await asyncio.sleep(0)
        assert not connection.transport.is_closing()
        received += await asyncio.to_thread(_raw, client)
        assert streamed_text(CHAT, _text(received)) == ANSWER


async def test_the_last_of_an_answer_does_not_wait_for_ever_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_protocol, "UNREAD_SECONDS", 1.0)
    async with serving(tmp_path, ANSWER[:250], send_buffer_bytes=SMALL_BUFFER) as server:
        for last in ("keep-alive", "close"):
            with await unread_stream(server, connection=last):
                await until(lambda: any(each.transport.get_write_buffer_size() for each in connections(server)))
                (connection,) = (each for each in connections(server) if each.transport.get_write_buffer_size())
                await until(lambda connection=connection: connection.cycle.response_complete)
                assert not connection.flow.write_paused, "this is to be a small rest"
                await until(lambda connection=connection: connection not in connections(server))


async def test_large_conversations_leave_the_memory_when_they_are_rendered_not_when_they_are_answered(tmp_path: Path):
    words = "a conversation that nobody needs any more"
    body = {**CHAT_BODY, "messages": [{"role": "user", "content": words}], "stream": True, "padding": "x" * 1_900_000}
    async with serving(
        tmp_path, ANSWER, context_window=20_000, send_buffer_bytes=SMALL_BUFFER, max_body_bytes=2 << 20
    ) as server:
        slow = [await unread_stream(server, body) for _ in range(4)]
        await until(lambda: num_leases(server) == 4 and server.budget.num_bytes == 0)
        slow.append(await unread_stream(server, body))  # the budget has room for four
        await until(lambda: num_leases(server) == 5 and server.budget.num_bytes == 0)
        gc.collect()
        held = [each for each in gc.get_objects() if isinstance(each, GenerationRequest) and words in repr(each)]
        bodies = [each._body for each in gc.get_objects() if isinstance(each, Request)]
        assert held == []
        assert not [body for body in bodies if isinstance(body, bytes) and len(body) > 1_000_000]
        for client in slow:
            assert streamed_text(CHAT, await asyncio.to_thread(_everything, client)) == ANSWER


def connections(server: Serving) -> list[BoundedHttpProtocol]:
    return [each for each in server.http.server_state.connections if isinstance(each, BoundedHttpProtocol)]


def num_leases(server: Serving) -> int:
    loaded = server.pool._loaded.get(MODEL)
    return 0 if loaded is None else loaded.num_leases


async def connected(server: Serving) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    await asyncio.to_thread(client.connect, ("127.0.0.1", server.client.base_url.port))
    return client


async def unread_stream(
    server: Serving, asked: dict[str, Any] | None = None, connection: str = "close"
) -> socket.socket:
    """A client that has asked for a stream, and reads nothing of it."""
    body = json.dumps(asked or {**CHAT_BODY, "stream": True}).encode()
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % CHAT.encode()
    client = await connected(server)
    head += b"Connection: %s\r\nContent-Length: %d\r\n\r\n" % (connection.encode(), len(body))
    await asyncio.to_thread(client.sendall, head + body)
    return client


def _everything(client: socket.socket) -> str:
    return _text(_raw(client))


def _raw(client: socket.socket) -> bytes:
    """What comes until the end."""
    client.settimeout(120)
    with client, client.makefile("rb") as reader:
        return reader.read()


def _text(raw: bytes) -> str:
    """The body, without the sizes of the chunks."""
    found, rest = b"", raw.partition(b"\r\n\r\n")[2]
    while (at := rest.find(b"\r\n")) >= 0:
        size = int(rest[:at] or b"0", 16)
        found += rest[at + 2 : at + 2 + size]
        rest = rest[at + 4 + size :]
    return found.decode()
