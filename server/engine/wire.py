"""Framing of the socket between the API process and an engine process.

A frame is the payload's length as four little-endian bytes, then the payload: one message as msgpack.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

import msgspec

from .messages import Command, EngineMessage

_LENGTH_BYTES = 4
_encoder = msgspec.msgpack.Encoder()


class SharedSocket(socket.socket):
    """One on which several threads send, a whole frame at a time."""

    def __init__(self, *, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self._sending = threading.Lock()

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        with self._sending:
            super().sendall(data, flags)


def frame(message: Command | EngineMessage) -> bytes:
    """The message as one whole frame."""
    payload = _encoder.encode(message)
    return len(payload).to_bytes(_LENGTH_BYTES, "little") + payload


def read_frame(connection: socket.socket) -> bytes | None:
    """The payload of the next frame, blocking; `None` when the other side has closed."""
    header = _read_exactly(connection, _LENGTH_BYTES)
    return header and _read_exactly(connection, int.from_bytes(header, "little"))


def _read_exactly(connection: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            return None
        received += piece
    return bytes(received)


class FrameProtocol(asyncio.Protocol):
    """Gives each payload to `receive` as it comes, with the connection, so that no task has to be woken for it: the
    first may come before whoever connects goes on. `closed` is done when the connection is."""

    def __init__(self, receive: Callable[[bytearray, asyncio.Transport], None]) -> None:
        self._receive = receive
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        end = 0
        while (payload := end + _LENGTH_BYTES) <= len(self._buffer):
            next_end = payload + int.from_bytes(self._buffer[end:payload], "little")
            if next_end > len(self._buffer):
                break
            self._receive(self._buffer[payload:next_end], self._transport)
            end = next_end
        del self._buffer[:end]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.closed.done():
            self.closed.set_result(None)
