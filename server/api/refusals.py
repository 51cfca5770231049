"""What is refused, as the log tells it: few lines, however many requests there are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from litestar.types import Scope

logger = logging.getLogger(__name__)

_FIRST_SECONDS = 60.0
_MAX_SECONDS = 3600.0
_MAX_LENGTH = 100


class Refused(StrEnum):
    """Why, in the log's words; few, since there is a count for each."""

    WRONG_KEY = "a wrong key"
    NO_KEY = "no key"
    HOST = "a foreign Host"
    ORIGIN = "a foreign Origin"
    ADMIN_KEY = "a wrong admin key"
    MALFORMED = "what is no HTTP request"
    LARGE_HEAD = "a request with too large a head"
    SLOW = "a request that came too slowly"
    LOCKOUT = "as many wrong admin keys as may be tried within a minute, and others until it is over"


@dataclass(slots=True)
class _Told:
    """How many came since the last line, the last of them, and when the next line is due."""

    due: float
    seconds: float
    count: int = 0
    last: str = ""


class Refusals:
    """The first of a kind is told at once; how many came after it when a minute is over, and then, while there are
    more, after twice the time each, up to an hour: nobody fills a disk with them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[Refused, _Told] = {}

    def note(self, kind: Refused, source: str) -> None:
        """`source` is where it came from: never a key."""
        told = self._told.get(kind)
        if told is None:
            logger.warning("Refused %s, from %s", kind, source)
            self._told[kind] = _Told(self._clock() + _FIRST_SECONDS, _FIRST_SECONDS)
            return
        told.count += 1
        told.last = source

    def tell(self, *, all_of_them: bool = False) -> None:
        """Say what has come since, of the kinds whose time is over or of all."""
        now = self._clock()
        for kind, told in list(self._told.items()):
            if now < told.due and not all_of_them:
                continue
            if not told.count:
                del self._told[kind]
                continue
            seconds = told.seconds + now - told.due
            logger.warning("Refused %s %d more times in %.0f s, last from %s", kind, told.count, seconds, told.last)
            told.seconds = min(2 * told.seconds, _MAX_SECONDS)
            told.due, told.count = now + told.seconds, 0


def address_of(scope: Scope) -> str:
    """Who asks: the address that the connection comes from."""
    client = scope.get("client")
    return shortened(client[0]) if client else "an unknown address"


def shortened(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
