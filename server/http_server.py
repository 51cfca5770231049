"""The ASGI server around the application: uvicorn, with an end that clients can read."""

from __future__ import annotations

import asyncio
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
logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its name for all its news

_KEEP_ALIVE_SECONDS = 75
_LAST_SECONDS = 1
"""For the requests that were told of the end: to say so to their clients."""
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
        del frame
        name = signal.Signals(sig).name
        if self.should_exit:
            logger.info("%s received again, ending at once", name)
            self.force_exit = True
            self._kill()
            return
        words = "%s received: running requests have %g seconds to end, or until a second signal"
        logger.info(words, name, self._grace_seconds)
        self.should_exit = True
        self._drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + self._grace_seconds
        while self._is_busy and not self.force_exit and clock() < ends_at:
            await asyncio.sleep(_POLL_SECONDS)
        self._end_streams()
        await super().shutdown(sockets)

    @property
    def _is_busy(self) -> bool:
        """Whether a request is under way, or an answer still to be read."""
        connections = self.server_state.connections
        return bool(self.server_state.tasks) or any(each.transport.get_write_buffer_size() for each in connections)


def _log_unseen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no task waits for any more. asyncio's own line would repeat the exception's words."""
    logger.error("%s", context["message"], exc_info=context.get("exception"))
