"""Where a model hub may send on whoever asks it for a file: to other hosts of the internet, and to none behind them.

A name is resolved here before httpx2 does so again to connect. One that gives another address by then, or several of
which some are not on the internet, meets TLS, in which the host at that address has to prove that it has this name.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from ..errors import DownloadFailed

if TYPE_CHECKING:
    import httpx2

_FAKE = ipaddress.ip_network("198.18.0.0/15")
"""Nobody's: a proxy that takes all of a machine's traffic has its resolver give these for the names of the internet,
often with private addresses of IPv6 beside them."""

_SETTING = threading.Lock()
"""A client that is replaced is closed, whoever uses it."""


def refuse_redirects_inwards() -> None:
    """Have huggingface_hub's client check each answer by `check_redirect`, from now on and in the whole process."""
    import httpx2
    from huggingface_hub import get_session, set_client_factory

    with _SETTING:
        hooks = get_session().event_hooks
        if check_redirect not in hooks["response"]:
            hooks = {**hooks, "response": [*hooks["response"], check_redirect]}
            set_client_factory(lambda: httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None))


def check_redirect(response: httpx2.Response) -> None:
    """Raises `DownloadFailed` for a redirect that leaves TLS, or leaves the host that answered for one that is not on
    the internet."""
    import httpx2

    if not response.has_redirect_location:
        return
    asked = response.request.url
    try:
        target = httpx2.URL(urljoin(str(asked), response.headers["location"]))
        is_same_host = target.host == asked.host
        inner = None if is_same_host else _inner_address(target.raw_host.decode())
    except (httpx2.InvalidURL, ValueError):
        raise _refusal(asked, "somewhere that is no address") from None
    if target.scheme != "https" and not (is_same_host and target.scheme == asked.scheme):
        raise _refusal(asked, f"{target.scheme}://{target.host}, which is not https")
    if inner is not None:
        raise _refusal(asked, f"{target.host}, whose address {inner} is not on the internet")


def _refusal(asked: httpx2.URL, where: str) -> DownloadFailed:
    return DownloadFailed(f"{asked.host} sends on to {where}; omlx does not follow it there. Check HF_ENDPOINT")


def _inner_address(host: str) -> str | None:
    """An address of a host that has none on the internet. A name that is not known here has none at all. Raises
    `UnicodeError` for what can be no name."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:  # a proxy may know it; without one, connecting tells
        return None
    addresses = [str(entry[4][0]) for entry in found]
    return None if any(map(_is_outside, addresses)) else addresses[0]


def _is_outside(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_global or address in _FAKE
