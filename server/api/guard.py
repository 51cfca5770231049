"""Who may speak to the server: the guard in front of every route.

It stands before routing, so that no spelling of a path can slip past it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from litestar.types import ASGIApp, Receive, Scope, Send

from ..errors import Forbidden, InvalidRequest, RequestError, ShuttingDown, Unauthorized, UnsupportedMedia
from .failures import HOLDER, send_error
from .keys import Holder, ServerKeys, given_key
from .refusals import Refusals, Refused, address_of, shortened

ADMIN_PATH = "/admin"
_OPEN_PATHS = frozenset({"/health", "/ready"})
_HOST = re.compile(rb"(\[[\da-f:.]+(%[\w.~-]+)?\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?", re.IGNORECASE)
"""RFC 3986's host and port."""


class Guard:
    """Refuses foreign hosts and origins, bodies that aren't JSON, and, where a key is set, other keys.

    A web page that rebinds its name to 127.0.0.1 sends its own name as `Host`; one that posts a form
    across sites sends its `Origin`, and can't send `application/json` without a preflight.
    `allowed_host` is a name or address the server is reached by, besides localhost and literal addresses.
    """

    def __init__(self, app: ASGIApp, *, keys: ServerKeys, allowed_host: str, refusals: Refusals) -> None:
        self.app = app
        self._keys = keys
        self._allowed_host = allowed_host.lower()
        self.refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            refusal = check_host(scope["headers"], scope["http_version"])
            refusal = refusal or self.check(scope["method"], scope["path"], headers)
            if refusal is not None:
                self._note(refusal, scope, headers)
                await send_error(refusal, scope, send)
                return
            scope.setdefault("state", {})[HOLDER] = self._keys.holder_of(given_key(headers)) or Holder()
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:  # the server's end, of which uvicorn would say that it failed
            if scope["type"] == "http":
                with suppress(RuntimeError):  # the answer has begun
                    await send_error(ShuttingDown(), scope, send)
            raise

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> RequestError | None:
        """Why a request is refused, or `None`. `headers` has lower-case names."""
        host = headers.get("host", "")
        if not self._is_served_here(_host_name(host)):
            return Forbidden(f"host {host!r} is not served here; use 127.0.0.1 or localhost")
        if _is_cross_site(headers, host):
            return Forbidden("requests from other web sites are refused")
        if method == "POST" and headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return UnsupportedMedia("send the body as Content-Type: application/json")
        if path == ADMIN_PATH or path.startswith(f"{ADMIN_PATH}/"):
            return None  # these routes have a guard, and a key, of their own
        if path not in _OPEN_PATHS and not self._keys.accepts(given_key(headers)):
            # OpenAI's first words: LiteLLM tells a wrong key from a bad request by them.
            return Unauthorized("Incorrect API key provided; send the server's as Authorization: Bearer or x-api-key")
        return None

    def _note(self, refusal: RequestError, scope: Scope, headers: Mapping[str, str]) -> None:
        """For the log: what a stranger sent, and not a client's mistake."""
        source = address_of(scope)
        if isinstance(refusal, Unauthorized):
            self.refusals.note(Refused.WRONG_KEY if given_key(headers) else Refused.NO_KEY, source)
        elif isinstance(refusal, InvalidRequest):
            self.refusals.note(Refused.MALFORMED, source)
        elif isinstance(refusal, Forbidden):
            is_host = not self._is_served_here(_host_name(headers.get("host", "")))
            kind, name = (Refused.HOST, "host") if is_host else (Refused.ORIGIN, "origin")
            told = headers.get(name, "none").rpartition("@")[2]  # before it a password may stand
            self.refusals.note(kind, f"{source}: {shortened(told)!r}")

    def _is_served_here(self, name: str) -> bool:
        # A literal address can't be rebound.
        return name == self._allowed_host or _is_localhost(name) or _address(name) is not None


def check_host(headers: Iterable[tuple[bytes, bytes]], http_version: str) -> InvalidRequest | None:
    """Why RFC 9112 (3.2) wants the request refused: proxies may have believed another `Host` than the server would."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        return InvalidRequest("the request has more than one Host header; send one")
    if not hosts:
        return InvalidRequest("the request has no Host header; send one") if http_version == "1.1" else None
    if _HOST.fullmatch(hosts[0]) is None:
        return InvalidRequest("the Host header is no name or address with a port; send one such as localhost:8000")
    return None


def _is_cross_site(headers: Mapping[str, str], host: str) -> bool:
    if headers.get("sec-fetch-site") == "cross-site":
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:  # "http://[", which no browser sends
        return True
    name = _host_name(netloc)
    address = _address(name)
    return netloc != host and not _is_localhost(name) and not (address and address.is_loopback)


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """`host` in lower case and without its port: `[::1]:80` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
