"""The ASGI server around the application: uvicorn, with an end that clients can read."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from litestar.types import ASGIApp

from .http_protocol import BoundedHttpProtocol
from .malloc import keep_one_arena

logger = logging.getLogger(__name__)
logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its name for all its news

_KEEP_ALIVE_SECONDS = 75


class HttpServer(uvicorn.Server):
    """Runs `app` until SIGINT or SIGTERM, then returns normally; a second signal ends it at once.

    On the signal no new connection is taken, and `drain` called. `end_streams` is called after `grace_seconds`:
    requests that still run get an error event rather than a cut connection.
    """

    def __init__(
        self, app: ASGIApp, drain: Callable[[], None], end_streams: Callable[[], None], grace_seconds: float
    ) -> None:
        self._drain = drain
        self._end_streams = end_streams
        self._grace_seconds = grace_seconds
        config = uvicorn.Config(
            app,  # pyright: ignore[reportArgumentType]  # the same protocol, typed by two libraries
            loop="uvloop",
            http=BoundedHttpProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(grace_seconds) + 1,
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
        logger.info("%s received, finishing the running requests", signal.Signals(sig).name)
        self.force_exit = self.should_exit
        self.should_exit = True
        self._drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(self._grace_seconds, self._end_streams)
        await super().shutdown(sockets)


def _log_unseen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no task waits for any more. asyncio's own line would repeat the exception's words."""
    logger.error("%s", context["message"], exc_info=context.get("exception"))
