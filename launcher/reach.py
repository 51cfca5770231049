"""Gets a server to talk to: finds the one there is, or starts one."""

from __future__ import annotations

from collections.abc import Callable

from ..integrations.spec import KEY_VARIABLE
from .address import ServerAddress, is_loopback
from .client import ServerClient
from .errors import ServerDown
from .machine import Machine
from .starting import start_server


def reach_server(machine: Machine, url: str | None, report: Callable[[str], None], *, may_start: bool) -> ServerClient:
    """A client of a server that answers; one that nobody named is started. The caller closes it. Raises ServerError."""
    address = machine.resolve(url)
    client = ServerClient(address.url, machine.environ.get(KEY_VARIABLE))
    try:
        client.health()
    except ServerDown:
        client.close()
        if address.is_chosen:
            raise ServerDown(_down(address)) from None
        if not may_start:
            raise ServerDown(f"no server runs at {address.url}; start it with `omlx serve`") from None
        state = start_server(machine.omlx_home, machine.environ, report)
        return ServerClient(state.url, machine.environ.get(KEY_VARIABLE))
    except BaseException:
        client.close()
        raise
    return client


def _down(address: ServerAddress) -> str:
    remedy = (
        "Start it with `omlx serve` and that address" if is_loopback(address.url) else "Is it running, and reachable?"
    )
    return f"nothing answers at {address.url}, which {address.source} names. {remedy}"
