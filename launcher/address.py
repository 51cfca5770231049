"""Where the server is: the one rule by which every command finds it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from .errors import LauncherError
from .state import ServerState

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "OMLX_URL"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """`url` has no path; `source` says in words who named it; `is_chosen` is true where the user did."""

    url: str
    source: str
    is_chosen: bool


def resolve(
    flag: str | None, environ: Mapping[str, str], read_state: Callable[[], ServerState | None]
) -> ServerAddress:
    """Flag, then OMLX_URL, then the running server's own state file, then the default."""
    if flag:
        return ServerAddress(normalised(flag, "--url"), "--url", is_chosen=True)
    if environ.get(URL_VARIABLE):
        return ServerAddress(normalised(environ[URL_VARIABLE], URL_VARIABLE), URL_VARIABLE, is_chosen=True)
    state = read_state()
    if state is not None:
        return ServerAddress(normalised(state.url, "the server's state file"), "the running server", is_chosen=False)
    return ServerAddress(DEFAULT_URL, "the default", is_chosen=False)


def normalised(url: str, source: str) -> str:
    """`url` as scheme://host:port, wildcard binds as loopback; a trailing `/v1` is dropped, other paths are kept.

    Raises LauncherError, naming `source`, where it is no http address.
    """
    text = url.strip()
    parts = _split(text if "://" in text else f"http://{text}", source)
    host = _WILDCARDS.get(parts.hostname or "", parts.hostname or "")
    if not host or parts.scheme not in ("http", "https"):
        raise LauncherError(f"{source} {url!r} is no http address; write it like {DEFAULT_URL}")
    if parts.username or parts.password:
        raise LauncherError(f"{source} holds a user name or password; put the key in OMLX_API_KEY instead")
    shown_host = f"[{host}]" if ":" in host else host
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{shown_host}{port}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str, source: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise LauncherError(f"{source} {url!r} is no http address ({error}); write it like {DEFAULT_URL}") from error
    return parts
