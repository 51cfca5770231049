"""Bounds what the bodies of all requests together take of memory."""

from __future__ import annotations

from litestar import Request
from litestar.types import ASGIApp, HTTPReceiveMessage, Receive, Scope, Send, WebSocketReceiveMessage

from ..errors import Overloaded

FREE_BYTES = 1 << 20
"""What a request may send however much the others hold: a large one never keeps a small one out."""
_RETRY_SECONDS = 5
_RELEASE = "release_body"
"""Where a scope's state has what gives back the share of its body."""


def release_body(request: Request) -> None:
    """The body of this request, and what was made of it, has left the memory: it counts no more."""
    request.scope["state"][_RELEASE]()


class BodyBudget:
    """Refuses a request (503, to be sent again) whose body would bring those under way over `max_bytes`.

    A body counts from its first byte to the end of its answer: the conversation that it holds lives as long, unless
    `release_body` says that it does not.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._num_bytes = 0

    @property
    def num_bytes(self) -> int:
        """Of the bodies that count now."""
        return self._num_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
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

        def release() -> None:
            nonlocal counted
            self._num_bytes -= counted
            counted = 0

        scope.setdefault("state", {})[_RELEASE] = release
        try:
            await self.app(scope, receive_counted, send)
        finally:
            release()
