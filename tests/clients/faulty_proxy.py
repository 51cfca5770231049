"""A TCP proxy before a server, for what networks and other people's proxies do to connections."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER by which a close is a reset."""


@dataclass(frozen=True, slots=True)
class Line:
    """How a connection fares. It carries at most `size` bytes at once, each time after `delay` seconds, and breaks once
    it has carried so many of the request or of the answer: by a reset where it `resets`, else by an early end."""

    size: int = 65_536
    delay: float = 0.0
    request_bytes: int | None = None
    answer_bytes: int | None = None
    resets: bool = False


class FaultyProxy:
    """Each new connection is one of the `lines`, in order; those after the last fare well."""

    def __init__(self, port: int, lines: Sequence[Line]) -> None:
        self._port = port
        self._lines = list(lines)
        self._carrying: set[asyncio.Task[None]] = set()
        self.num_connections = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = self._lines[self.num_connections] if self.num_connections < len(self._lines) else Line()
        self.num_connections += 1
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)
        ways = (
            _carry(reader, ours, line, line.request_bytes),
            _carry(theirs, writer, line, line.answer_bytes),
        )
        carrying = {asyncio.create_task(way) for way in ways}
        self._carrying |= carrying
        await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
        for task in carrying:
            task.cancel()
        for each in (writer, ours):
            _end(each, resets=line.resets)

    def close(self) -> None:
        for task in self._carrying:
            task.cancel()


@asynccontextmanager
async def faulty_proxy(port: int, *lines: Line) -> AsyncIterator[tuple[FaultyProxy, str]]:
    """A proxy before the server at this port of the machine, and its own address."""
    proxy = FaultyProxy(port, lines)
    server = await asyncio.start_server(proxy.take, "127.0.0.1", 0)
    try:
        yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        proxy.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line, num_bytes: int | None) -> None:
    """Until the one side ends, either breaks, or the line does."""
    left = num_bytes
    try:
        while left != 0:
            piece = await reader.read(line.size if left is None else min(line.size, left))
            if not piece:
                return
            await asyncio.sleep(line.delay)
            writer.write(piece)
            await writer.drain()
            left = None if left is None else left - len(piece)
    except ConnectionError:
        return


def _end(writer: asyncio.StreamWriter, *, resets: bool) -> None:
    if not resets:
        writer.close()
        return
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
