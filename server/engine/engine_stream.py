"""What an engine says of one request, for the one who reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from ..errors import OmlxError, from_words
from .messages import SequenceUpdate

Take: TypeAlias = Callable[[SequenceUpdate], SequenceUpdate | None]
"""Takes an update, and returns what is left of it."""


class EngineStream:
    """The updates of one request, in order. Leaving it early needs a `close`.

    What its reader has not taken yet is joined into one update, so that one who reads slowly, or not at all,
    costs its tokens and no more.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._update: SequenceUpdate | None = None
        self._error: OmlxError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._take: Take | None = None
        self._close = close
        self._ended = False

    def put(self, update: SequenceUpdate | OmlxError) -> None:
        if isinstance(update, OmlxError):
            self._error = update
        elif update.error:
            self._error = from_words(update.error)
        elif self._update is not None:
            self._update = update.joined_to(self._update)
        elif self._take is None:
            self._update = update
        else:
            try:
                self._update = self._take(update)
            except Exception as error:  # the reader's own: it must not end what brings everybody's updates
                self._take = None
                if self._reader is not None and not self._reader.done():
                    self._reader.set_exception(error)
            if self._update is None:
                return
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def next(self, take: Take | None = None) -> SequenceUpdate:
        """What there is since the last call, at least one update. Raises the error that ended the request.

        It has one reader, for whom a bare future is cheaper than an event. An update that comes while it waits is
        first given to `take`, which returns what is left of it for the reader: where that is None nobody is woken,
        which would cost more than most readers do with a token.
        """
        if self._update is None and self._error is None:
            self._take, self._reader = take, asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._take = None
        update, self._update = self._update, None
        if update is None:
            assert self._error is not None
            self._ended = True
            raise self._error
        self._ended = update.finish_reason is not None
        return update

    def close(self) -> None:
        """Tell the engine to forget the request, unless it has ended."""
        if not self._ended:
            self._ended = True
            self._close()
