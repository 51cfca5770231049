"""Who is logged in to the admin pages, and how often somebody may try."""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import TooManyAttempts

_IDLE_SECONDS = 12 * 3600.0
_MAX_SECONDS = 7 * 86400.0
_MAX_SESSIONS = 100
_MAX_FAILURES = 5
_FAILURE_SECONDS = 60.0


@dataclass(slots=True)
class Session:
    """`csrf` is what a page of this session sends with each change; `key_digest` is of the key that opened it.
    Times in seconds since the epoch."""

    session_id: str
    csrf: str
    key_digest: bytes
    agent: str
    created_at: float
    last_used_at: float


class Sessions:
    """Known by the hash of their cookie, in memory alone: a restart ends them."""

    def __init__(self, now: Callable[[], float], holds: Callable[[bytes], bool]) -> None:
        """`holds` says whether the key of a digest still opens the pages."""
        self._now = now
        self._holds = holds
        self._sessions: dict[bytes, Session] = {}

    def open(self, key_digest: bytes, agent: str) -> tuple[str, Session]:
        """A new session and its cookie, which nobody can read again."""
        token, now = secrets.token_urlsafe(32), self._now()
        session = Session(secrets.token_hex(6), secrets.token_urlsafe(24), key_digest, agent, now, now)
        while len(self._sessions) >= _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_digest(token)] = session
        return token, session

    def find(self, token: str) -> Session | None:
        """The session of this cookie, which is thereby used; None where it has ended."""
        session = self._sessions.get(_digest(token))
        if session is None or not self._is_live(session):
            return None
        session.last_used_at = self._now()
        return session

    def live(self) -> tuple[Session, ...]:
        return tuple(session for session in self._sessions.values() if self._is_live(session))

    def end(self, session_id: str | None = None) -> int:
        """End this one, or all; how many ended."""
        before = len(self._sessions)
        self._sessions = {
            digest: session
            for digest, session in self._sessions.items()
            if session_id is not None and session.session_id != session_id
        }
        return before - len(self._sessions)

    def _is_live(self, session: Session) -> bool:
        now = self._now()
        is_young = now - session.last_used_at < _IDLE_SECONDS and now - session.created_at < _MAX_SECONDS
        return is_young and self._holds(session.key_digest)


class FailureLimit:
    """After so many wrong keys within a minute, another wrong one has to wait until that minute is over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: deque[float] = deque()

    def check(self) -> None:
        """Raises `TooManyAttempts`."""
        now = self._clock()
        while self._failures and now - self._failures[0] >= _FAILURE_SECONDS:
            self._failures.popleft()
        if len(self._failures) >= _MAX_FAILURES:
            seconds = int(_FAILURE_SECONDS - (now - self._failures[0])) + 1
            raise TooManyAttempts(f"too many wrong admin keys; try again in {seconds} seconds", seconds)

    def failed(self) -> bool:
        """Whether this was the last that may be tried."""
        self._failures.append(self._clock())
        return len(self._failures) >= _MAX_FAILURES


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
