"""A client that reads slowly, or not at all, costs neither memory nor anybody else's time."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

from ..waiting import until
from .serving import MODEL, serving
from .test_server import CHAT, CHAT_BODY, num_running, streamed_text

ANSWER = "word " * 1500
"""A token a byte, and some 200 bytes of events each: more than all buffers on the way hold."""


async def test_clients_that_do_not_read_hold_up_nobody_and_lose_nothing(tmp_path: Path):
    async with serving(tmp_path, ANSWER, context_window=20_000) as server:
        port = server.client.base_url.port
        assert port is not None
        body = json.dumps({**CHAT_BODY, "stream": True}).encode()
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % CHAT.encode()
        slow: list[socket.socket] = []
        for _ in range(4):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(client.connect, ("127.0.0.1", port))
            client.sendall(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            slow.append(client)
        await until(lambda: MODEL in server.pool.engines and num_running(server) == 4)
        answer = await server.client.post(CHAT, json=CHAT_BODY)
        assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        await until(lambda: num_running(server) == 0)
        for client in slow:
            assert streamed_text(CHAT, await asyncio.to_thread(_everything, client)) == ANSWER


def _everything(client: socket.socket) -> str:
    """What comes until the end, without the sizes of the chunks."""
    client.settimeout(120)
    with client.makefile("rb") as reader:
        raw = reader.read()
    client.close()
    found, rest = b"", raw.partition(b"\r\n\r\n")[2]
    while (at := rest.find(b"\r\n")) >= 0:
        size = int(rest[:at] or b"0", 16)
        found += rest[at + 2 : at + 2 + size]
        rest = rest[at + 4 + size :]
    return found.decode()
