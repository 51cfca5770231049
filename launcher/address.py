"""Where the server is: the one rule by which every command finds it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import msgspec

from .errors import LauncherError
from .state import ServerState

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "OMLX_URL"
_HOST_VARIABLE, _PORT_VARIABLE = "OMLX_HOST", "OMLX_PORT"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """`url` has no path; `source` says in words who named it; `is_chosen` is true where the user did."""

    url: str
    source: str
    is_chosen: bool


class _Server(msgspec.Struct, frozen=True):
    host: object = None
    port: object = None


class _SettingsFile(msgspec.Struct, frozen=True):
    """What settings.json says of the address; all else in it is the server's."""

    server: _Server = _Server()


def resolve(
    flag: str | None,
    environ: Mapping[str, str],
    read_state: Callable[[], ServerState | None],
    read_settings: Callable[[], str | None] = lambda: None,
) -> ServerAddress:
    """Flag, then OMLX_URL, then the running server's own state file, then where the settings have one listen."""
    if flag:
        return ServerAddress(normalised(flag, "--url"), "--url", is_chosen=True)
    if environ.get(URL_VARIABLE):
        return ServerAddress(normalised(environ[URL_VARIABLE], URL_VARIABLE), URL_VARIABLE, is_chosen=True)
    state = read_state()
    if state is not None:
        return ServerAddress(normalised(state.url, "the server's state file"), "the running server", is_chosen=False)
    return _of_settings(environ, read_settings() or "{}")


def _of_settings(environ: Mapping[str, str], text: str) -> ServerAddress:
    """Where a server started now would listen: its variables win over its file. What it would refuse counts as unset;
    it says so itself. Port 0 is one that nobody knows yet."""
    try:
        server = msgspec.json.decode(text, type=_SettingsFile).server
    except msgspec.DecodeError:
        server = _Server()
    host, port = _host(environ, server.host), _port(environ, server.port)
    if host is None and port is None:
        return ServerAddress(DEFAULT_URL, "the default", is_chosen=False)
    default = urlsplit(DEFAULT_URL)
    shown_host = f"[{host}]" if host is not None and ":" in host else host or default.hostname
    url = f"http://{shown_host}:{default.port if port is None else port}"
    try:
        return ServerAddress(normalised(url, "server.host or server.port"), "the settings", is_chosen=False)
    except LauncherError:
        return ServerAddress(DEFAULT_URL, "the default", is_chosen=False)


def _host(environ: Mapping[str, str], of_file: object) -> str | None:
    return environ.get(_HOST_VARIABLE) or (of_file if isinstance(of_file, str) else None)


def _port(environ: Mapping[str, str], of_file: object) -> int | None:
    variable = environ.get(_PORT_VARIABLE, "")
    if variable:
        return int(variable) if variable.isascii() and variable.isdigit() else None
    return of_file if isinstance(of_file, int) and not isinstance(of_file, bool) else None


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
