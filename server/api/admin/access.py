"""Who may use the admin API: whoever shows the admin key, or the cookie of a session that it opened."""

from __future__ import annotations

import hmac
import time
from typing import Any, TypeAlias

from litestar.connection import ASGIConnection

from ...errors import Forbidden, Unauthorized
from ..keys import ServerKeys
from ..refusals import Refusals, Refused, address_of
from .sessions import FailureLimit, Session, Sessions

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]

COOKIE = "omlx_session"
CSRF_HEADER = "x-csrf-token"
_SAFE = ("GET", "HEAD", "OPTIONS")
_NO_KEY = "there is no admin key yet; make one with `omlx key admin`"


class AdminAccess:
    """Stands before each route of the admin API, after routing: no spelling of a path passes it by."""

    def __init__(self, keys: ServerKeys, refusals: Refusals) -> None:
        self._keys = keys
        self._refusals = refusals
        self._limit = FailureLimit(time.monotonic)
        self.sessions = Sessions(time.time, keys.is_admin_digest)

    @property
    def has_key(self) -> bool:
        return self._keys.has_admin_key

    def log_in(self, key: str, agent: str, connection: Connection) -> tuple[str, Session]:
        """A session, and its cookie. Raises `Unauthorized`, `TooManyAttempts`."""
        return self.sessions.open(self._checked(key, connection), agent)

    def session_of(self, connection: Connection) -> Session | None:
        return self.sessions.find(connection.cookies.get(COOKIE, ""))

    def check(self, connection: Connection) -> None:
        """Raises `Unauthorized`, `Forbidden` for a change that does not come from a page of the session, and
        `TooManyAttempts`."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            self._checked(token.strip(), connection)
            return
        session = self.session_of(connection)
        if session is None:
            raise Unauthorized("log in at /admin, or send the admin key as Authorization: Bearer")
        if connection.scope.get("method") not in _SAFE:
            given = connection.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(given.encode(), session.csrf.encode()):
                raise Forbidden(f"the header {CSRF_HEADER} is not this session's; load the page anew")

    def _checked(self, key: str, connection: Connection) -> bytes:
        """The right key passes whatever others tried: to tell costs one SHA-256, and nobody guesses 256 random bits."""
        digest = self._keys.admin_digest(key)
        if digest is not None:
            return digest
        if not self.has_key:
            raise Unauthorized(_NO_KEY)
        source = address_of(connection.scope)
        self._refusals.note(Refused.ADMIN_KEY, source)
        self._limit.check()
        if self._limit.failed():
            self._refusals.note(Refused.LOCKOUT, source)
        raise Unauthorized("that is not the admin key; `omlx key admin` makes a new one")


def cookie(token: str) -> str:
    """The Set-Cookie header of a session, or, with "", the end of it."""
    return f"{COOKIE}={token}; Path=/admin; HttpOnly; SameSite=Strict" + ("" if token else "; Max-Age=0")
