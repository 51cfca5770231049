"""uvicorn's HTTP on httptools, with the bounds on a request's head, and on who does not read, that it lacks."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import sys
import termios

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 5.0
BODY_SECONDS = 30.0
LEAST_BODY_RATE = 4096.0
"""Bytes a second. Each that comes earlier buys a later one time, but never more than `BODY_SECONDS` of it."""
LINGER_SECONDS = 10.0
UNREAD_SECONDS = 600.0
"""So long a client may read nothing of what waits for it: it holds a place in the engine, and the model in memory."""
BODY_WRITER = "body_writer"
"""Where a scope's state has the `BodyWriter` of its answer."""
_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_SLOW = b"408 Request Timeout"
_SO_NWRITE = 0x1024
"""Of macOS, by its sys/socket.h: the bytes in the send buffer."""


class BodyWriter:
    """Writes pieces of a chunked body that has begun, with no task in between, while it `is_open`. While it is not,
    `send` waits for a client that reads slowly, and drops what one that has gone would get."""

    __slots__ = ("_cycle", "_flow", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._flow = cycle.flow
        self._transport = cycle.transport

    @property
    def is_open(self) -> bool:
        return not (self._flow.write_paused or self._cycle.disconnected or self._transport.is_closing())

    def write(self, piece: bytes) -> None:
        """`piece` is not empty: that would end the body."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses a request whose head, or what stands behind a piece of its body, is over 64 KiB (431), whose head is not
    whole five seconds after it or its connection began, or whose body pauses for half a minute, or comes more slowly
    than `LEAST_BODY_RATE` for as long (408); closes the connection. One that is kept alive may stay idle for as long as
    uvicorn lets it. Trailers are read for nothing.

    A client that wants the connection closed gets its answer while it still sends: uvicorn would close at once, and
    bytes that nobody has read reset the connection, the answer with it. It may pause for ten seconds then.

    A client that has read nothing for ten minutes of an answer that waits for it is dropped.
    """

    _head_bytes = 0
    """Of the head, or of what came since the last piece of the body: sizes of chunks, and trailers."""
    _body_deadline = 0.0
    _is_in_head = True
    _limit: asyncio.TimerHandle | None = None
    _closes = False
    """Once the running request is answered and has come whole."""
    _reader_clock: asyncio.TimerHandle | None = None
    """While an answer waits for the client to read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_clock(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self._stop_reader_clock()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_reader_clock()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reader_clock()

    def data_received(self, data: bytes) -> None:
        if not self._is_in_head:
            now = self.loop.time()
            self._body_deadline = min(self._body_deadline + len(data) / LEAST_BODY_RATE, now + BODY_SECONDS)
            left = max(0.0, self._body_deadline - now)
            self._start_clock(min(LINGER_SECONDS, left) if self._lingers else left)
        elif self._limit is None:
            self._start_clock(HEAD_SECONDS)
        while data and not self.transport.is_closing():
            room = MAX_HEAD_BYTES - self._head_bytes
            piece, data = data[:room], data[room:]
            self._head_bytes += len(piece)
            super().data_received(piece)
            if self._head_bytes >= MAX_HEAD_BYTES:
                self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self.flow.write_paused:
            self._stop_reader_clock()
        if self._limit is None:  # the next request, in what came with the last one
            self._start_clock(HEAD_SECONDS)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # a trailer may not change what the handler has begun with
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        self._body_deadline = self.loop.time() + BODY_SECONDS
        self._start_clock(BODY_SECONDS)
        super().on_headers_complete()
        self._closes, self.cycle.keep_alive = not self.cycle.keep_alive, True
        self.scope.setdefault("state", {})[BODY_WRITER] = BodyWriter(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        self._stop_clock()
        super().on_message_complete()
        if self._lingers:
            self.transport.close()

    def on_response_complete(self) -> None:
        if self.transport.get_write_buffer_size():
            self._start_reader_clock()
        is_last = not self.pipeline
        super().on_response_complete()
        if not is_last or not self._closes:
            return
        if self._is_in_head:
            self.transport.close()
        else:
            self._start_clock(LINGER_SECONDS)

    @property
    def _lingers(self) -> bool:
        """The answer is out, and what the client still sends is read for nothing."""
        return self._closes and self.cycle.response_complete

    @property
    def _is_answered(self) -> bool:
        """An answer to the request that comes, or to the one before it, is under way or out."""
        if self.cycle is None:
            return False
        return not self.cycle.response_complete if self._is_in_head else self.cycle.response_started

    def _start_clock(self, seconds: float) -> None:
        self._stop_clock()
        self._limit = self.loop.call_later(seconds, self._refuse, _TOO_SLOW)

    def _stop_clock(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _start_reader_clock(self) -> None:
        self._stop_reader_clock()
        self._reader_clock = self.loop.call_later(UNREAD_SECONDS, self._look_for_reader, num_unread(self.transport))

    def _stop_reader_clock(self) -> None:
        if self._reader_clock is not None:
            self._reader_clock.cancel()
            self._reader_clock = None

    def _look_for_reader(self, num_unread_before: int) -> None:
        self._reader_clock = None
        if not self.transport.get_write_buffer_size():
            return
        if num_unread(self.transport) < num_unread_before:
            self._start_reader_clock()
            return
        logger.info("A client has read nothing for %g seconds and is dropped", UNREAD_SECONDS)
        self.transport.abort()

    def _refuse(self, status: bytes) -> None:
        self._stop_clock()
        if not self.transport.is_closing():
            if not self._is_answered:
                self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()


def num_unread(transport: asyncio.Transport) -> int:
    """The bytes that wait for the client to read, here and in the system: that takes the next ones only once much of
    its own has gone, which a slow reader needs long for."""
    connection = transport.get_extra_info("socket")
    try:
        if sys.platform == "darwin":
            unsent = connection.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
        else:
            unsent = int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        unsent = 0
    return transport.get_write_buffer_size() + unsent
