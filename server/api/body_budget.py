"""Bounds what the bodies of all requests together take of memory."""

from __future__ import annotations

from litestar.types import ASGIApp, HTTPReceiveMessage, Receive, Scope, Send, WebSocketReceiveMessage

from ..errors import Overloaded

FREE_BYTES = 1 << 20
"""What a request may send however much the others hold: a large one never keeps a small one out."""
_RETRY_SECONDS = 5


class BodyBudget:
    """Refuses a request (503, to be sent again) whose body would bring those under way over `max_bytes`.

    A body counts from its first byte to the end of its answer: the conversation that it holds lives as long.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._num_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = 0

        async def receive_counted() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            nonlocal counted
            message = await receive()
            if message["type"] == "http.request":
                size = len(message["body"])
                if counted + size > FREE_BYTES and self._num_bytes + size > self._max_bytes:
                    raise Overloaded("other large requests are under way; try again shortly", _RETRY_SECONDS)
                counted += size
                self._num_bytes += size
            return message

        try:
            await self.app(scope, receive_counted if scope["type"] == "http" else receive, send)
        finally:
            self._num_bytes -= counted
