"""uvicorn's HTTP on httptools, with the bounds on a request's head, and on who does not read, that it lacks."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import re
import socket
import sys
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from litestar.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .errors import HeadTooLarge, InvalidRequest, RequestError, RequestTimeout

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 5.0
BODY_SECONDS = 30.0
LEAST_BODY_RATE = 4096.0
"""Bytes a second. Each that comes earlier buys a later one time, but never more than `BODY_SECONDS` of it."""
BODY_GRACE_SECONDS = 600.0
AVERAGE_BODY_RATE = 65536.0
"""Bytes a second, in the mean, of a body that takes longer than the grace: one of 64 MiB, which would hold its share of
the room for all bodies for 4.5 hours at `LEAST_BODY_RATE`, does for 17 minutes at most. After the grace the SDKs give
up, too, and the longest conversations, 5 MB for a million tokens, need 8 KiB a second to come within it."""
LINGER_SECONDS = 10.0
UNREAD_SECONDS = 600.0
"""So long a client may read nothing of what waits for it: it holds a place in the engine, and the model in memory."""
BODY_WRITER = "body_writer"
"""Where a scope's state has the `BodyWriter` of its answer."""
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)

Refuse = Callable[[RequestError, Scope | None, str, Sequence[tuple[bytes, bytes]]], bytes]
"""Of the error, the request's scope where its head was read, the client's address, or none where the log need not have
it, and the server's own headers it makes the bytes of an answer."""

_NO_HTTP = (
    "this is no valid HTTP/1.1 request; use http:// and not https://, and look at what the client, or a proxy, sends"
)
_NO_PATH = "this server is no proxy, and answers for paths alone; ask for one, such as /v1/models"
_TOO_LARGE = "the request's head is over %d KiB; send fewer or shorter headers and trailers, or a shorter URL"
_SLOW_HEAD = "the request's head was not whole after %g seconds; send it at once, on a new connection"
_SLOW_BODY = "the request's body came too slowly; send it again, faster than 4 KiB a second, or a smaller one"
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

    A client that wants the connection closed, or is refused, gets its answer while it still sends: uvicorn would close
    at once, and bytes that nobody has read reset the connection, the answer with it. It may pause for ten seconds then.

    Answers to earlier requests come first, and whole: a refusal waits for them.

    A client that has read nothing for ten minutes of an answer that waits for it is dropped.
    """

    _head_bytes = 0
    """Of the head, or of what came since the last piece of the body: sizes of chunks, and trailers."""
    _body_deadline = 0.0
    _body_began = 0.0
    _body_bytes = 0
    _is_in_head = True
    _asks_upgrade = False
    _rereads_head = False
    _limit: asyncio.TimerHandle | None = None
    _closes = False
    """Once the running request is answered and has come whole."""
    _running: RequestResponseCycle | None = None
    """The request whose handler was started last: `cycle`, or one that `cycle` waits for."""
    _is_refused = False
    """What comes is read for nothing. The connection closes once what runs is answered."""
    _refusal: RequestError | None = None
    """To be answered then."""
    _reader_clock: asyncio.TimerHandle | None = None
    """While an answer waits for the client to read."""

    def __init__(self, *arguments: Any, refuse: Refuse, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._refused_answer = refuse

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_clock(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self._stop_reader_clock()
        self._unset_keepalive_if_required()  # uvicorn's would keep all of this in memory after a reset
        if self._running is not None:  # uvicorn tells the request that came last, which may wait for this one
            _disconnect(self._running)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._is_refused and not self._is_answering:
            self.transport.close()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_reader_clock()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reader_clock()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if not self._is_in_head:
            now = self.loop.time()
            self._body_bytes += len(data)
            last = self._body_began + max(BODY_GRACE_SECONDS, self._body_bytes / AVERAGE_BODY_RATE)
            self._body_deadline = min(self._body_deadline + len(data) / LEAST_BODY_RATE, now + BODY_SECONDS, last)
            left = max(0.0, self._body_deadline - now)
            self._start_clock(min(LINGER_SECONDS, left) if self._lingers else left)
        elif self._limit is None:
            self._start_clock(HEAD_SECONDS)
        while data and not self._is_refused and not self.transport.is_closing():
            room = MAX_HEAD_BYTES - self._head_bytes
            piece, data = data[:room], data[room:]
            self._head_bytes += len(piece)
            self._feed(piece)
            if self._head_bytes >= MAX_HEAD_BYTES:
                self._refuse(HeadTooLarge(_TOO_LARGE % (MAX_HEAD_BYTES // 1024)))

    def _feed(self, piece: bytes) -> None:
        self._unset_keepalive_if_required()
        while piece:
            try:
                self.parser.feed_data(piece)  # pyright: ignore[reportOptionalMemberAccess]
                return
            except HttpParserUpgrade as upgrade:
                piece = self._head_without_upgrade() + piece[upgrade.args[0] :]
            except HttpParserError as error:
                ours = error.__context__
                self._refuse(ours if isinstance(ours, RequestError) else InvalidRequest(_NO_HTTP))
                return

    def _head_without_upgrade(self) -> bytes:
        """An upgrade is declined, and what follows its head is HTTP/1.1 still: its body, as Java's clients send one.
        httptools would leave that to the other protocol, so that a new parser reads on, from this head."""
        self._asks_upgrade, self._rereads_head = False, True
        self.parser = HttpRequestParser(self)
        with suppress(AttributeError):  # as uvicorn's; httptools before 0.6.3 knows none
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        framing = [b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING]
        return b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"])

    def on_message_begin(self) -> None:
        if self._rereads_head:
            return
        super().on_message_begin()
        if not self.flow.write_paused:
            self._stop_reader_clock()
        if self._limit is None:  # the next request, in what came with the last one
            self._start_clock(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        if not self._rereads_head:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # a trailer, or a head that is read again, may not change what the handler has begun with
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._rereads_head:
            self._rereads_head = False
            return
        if not self.url.startswith(b"/"):
            self._read_target()
        super().on_headers_complete()
        self._asks_upgrade = self.parser.should_upgrade()  # pyright: ignore[reportOptionalMemberAccess]
        self._is_in_head = False
        self._head_bytes = 0
        self._restart_clock()
        self._closes, self.cycle.keep_alive = not self.cycle.keep_alive, True
        self.scope.setdefault("state", {})[BODY_WRITER] = BodyWriter(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._asks_upgrade:
            return
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
        was_paused = self.flow.read_paused
        super().on_response_complete()
        if was_paused and self._limit is not None:
            self._restart_clock()
        if not is_last:
            return
        if self._is_refused:
            self._end()
        elif not self._closes:
            return
        elif self._is_in_head:
            self.transport.close()
        else:
            self._start_clock(LINGER_SECONDS)

    @property
    def _lingers(self) -> bool:
        """The answer is out, and what the client still sends is read for nothing."""
        return self._closes and self.cycle.response_complete

    @property
    def _is_answering(self) -> bool:
        running = self._running
        return running is not None and not running.response_complete and not running.disconnected

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _read_target(self) -> None:
        """Make a target in absolute form a path, and its host the request's (RFC 9112, 3.2.2). Raises `InvalidRequest`
        for what only a proxy or a whole server answers."""
        absolute = _ABSOLUTE.fullmatch(self.url)
        if absolute is None:
            raise InvalidRequest(_NO_PATH)
        host, rest = absolute.groups()
        self.headers[:] = [(name, host if name == b"host" else value) for name, value in self.headers]
        self.url = rest if rest.startswith(b"/") else b"/" + rest

    def _start_clock(self, seconds: float) -> None:
        self._stop_clock()
        self._limit = self.loop.call_later(seconds, self._look_at_clock)

    def _restart_clock(self) -> None:
        """All of the time again: the request begins to come, or comes on after it was not read for a while."""
        if self._is_in_head:
            self._start_clock(HEAD_SECONDS)
            return
        self._body_began = self.loop.time()
        self._body_bytes = 0
        self._body_deadline = self._body_began + BODY_SECONDS
        self._start_clock(BODY_SECONDS)

    def _look_at_clock(self) -> None:
        self._limit = None
        if self.flow.read_paused:  # nobody knows whether it has come: it waits for its turn
            self._restart_clock()
        elif self._is_in_head:
            self._refuse(RequestTimeout(_SLOW_HEAD % HEAD_SECONDS))
        else:
            self._refuse(RequestTimeout(_SLOW_BODY))

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

    def _refuse(self, error: RequestError) -> None:
        """Answer the request that comes with `error`, unless it is answered already, and close; after the requests
        before it."""
        self._stop_clock()
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        refused = None if self._is_in_head else self.cycle
        if refused is None or not refused.response_started:
            self._refusal = error
            if refused is not None and refused is self._running:
                _disconnect(refused)
            elif refused is not None:
                self.pipeline.popleft()
        if not self._is_answering:
            self._end()

    def _end(self) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._refusal is None:
            self.transport.close()
            return
        scope = None if self._is_in_head else cast("Scope", self.scope)
        client = self.client[0] if self.client else "an unknown address"
        if self.cycle is None and not self._head_bytes:
            client = ""  # that nothing has come, of a browser's spare connection say, is no news
        self.transport.write(self._refused_answer(self._refusal, scope, client, self.server_state.default_headers))
        self.transport.write_eof()
        self.flow.resume_reading()
        self._limit = self.loop.call_later(LINGER_SECONDS, self.transport.close)


def _disconnect(cycle: RequestResponseCycle) -> None:
    """The handler can answer no more, and hears of it."""
    cycle.disconnected = True
    cycle.message_event.set()


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
