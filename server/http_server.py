"""The ASGI server around the application: uvicorn, with an end that clients can read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from litestar.types import ASGIApp

from .api.refusals import Refusals
from .api.refused_answer import refused_answer
from .http_protocol import BoundedHttpProtocol
from .malloc import keep_one_arena

logger = logging.getLogger(__name__)


def _is_news(record: logging.LogRecord) -> bool:
    """Not what is cancelled with the loop, by whose end requests and the app were cut off: Litestar tells of that in
    words, uvicorn with the exception."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError) and "CancelledError" not in record.getMessage()


logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its name for all its news
logging.getLogger("uvicorn.error").addFilter(_is_news)

_KEEP_ALIVE_SECONDS = 75
_LAST_SECONDS = 1
"""For the requests that were told of the end: to say so to their clients."""
_CLOSE_SECONDS = 3.0
"""For the app to end after a second signal, whose engines are killed then."""
_POLL_SECONDS = 0.05


class HttpServer(uvicorn.Server):
    """Runs `app` until SIGINT or SIGTERM, then returns normally; a second signal ends it at once.

    On the signal `drain` is called, and the requests under way have `grace_seconds` to end by themselves. The port
    stays open for so long: who comes meanwhile hears from the app that it stops, rather than finding no server. Then
    `end_streams` is called: requests that still run get an error event rather than a cut connection. The second signal
    calls `kill`, so that nobody waits for what the end of the app waits for. `refusals` are told of what is refused
    before it reaches the app.
    """

    def __init__(
        self,
        app: ASGIApp,
        drain: Callable[[], None],
        end_streams: Callable[[], None],
        grace_seconds: float,
        kill: Callable[[], None] = lambda: None,
        refusals: Refusals | None = None,
    ) -> None:
        self._drain = drain
        self._end_streams = end_streams
        self._grace_seconds = grace_seconds
        self._kill = kill
        refuse = partial(refused_answer, refusals or Refusals())
        self._signals: list[str] = []
        self._num_running = 0
        self.num_cut = 0
        """How many requests did not end by themselves."""
        config = uvicorn.Config(
            app,  # pyright: ignore[reportArgumentType]  # the same protocol, typed by two libraries
            loop="uvloop",
            http=partial(BoundedHttpProtocol, refuse=refuse),  # pyright: ignore[reportArgumentType]
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_LAST_SECONDS,
        )
        super().__init__(config)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        keep_one_arena()  # before the threads that serve
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_log_unseen)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Logs nothing: a line may be half written where the signal comes."""
        del frame
        self._signals.append(signal.Signals(sig).name)
        if self.should_exit:
            self.num_cut = max(self.num_cut, len(self.server_state.tasks))
            self.force_exit = True
            self._kill()
        else:
            self._num_running = len(self.server_state.tasks)
            self.should_exit = True
            self._drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("Stopping%s: %s", self._asked(0), self._outlook())
        clock = asyncio.get_running_loop().time
        ends_at = clock() + self._grace_seconds
        while self._is_busy and not self.force_exit and clock() < ends_at:
            await asyncio.sleep(_POLL_SECONDS)
        self.num_cut = max(self.num_cut, len(self.server_state.tasks))
        self._end_streams()
        await super().shutdown(sockets)
        if self.force_exit:
            logger.info("Stopping at once%s", self._asked(1))
            await self._close_app()

    def _asked(self, number: int) -> str:
        return f", {self._signals[number]} received" if number < len(self._signals) else ""

    def _outlook(self) -> str:
        if not self._num_running:
            return "no request is running"
        requests = "1 running request has" if self._num_running == 1 else f"{self._num_running} running requests have"
        return f"{requests} {self._grace_seconds:g} seconds to end, or until a second signal"

    async def _close_app(self) -> None:
        """What uvicorn leaves out after a second signal. What takes too long is cancelled with the loop."""
        if self.server_state.tasks:  # their engines have been killed
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lifespan.shutdown(), _CLOSE_SECONDS)

    @property
    def _is_busy(self) -> bool:
        """Whether a request is under way, or an answer still to be read."""
        connections = self.server_state.connections
        return bool(self.server_state.tasks) or any(each.transport.get_write_buffer_size() for each in connections)


def _log_unseen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no task waits for any more. asyncio's own line would repeat the exception's words."""
    logger.error("%s", context["message"], exc_info=context.get("exception"))
