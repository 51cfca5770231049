"""Gets a server to talk to: finds the one there is, or starts one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

from .address import DEFAULT_URL, ServerAddress, is_loopback
from .client import ServerClient
from .errors import ServerDown
from .keys import access_key
from .machine import Machine
from .own_key import own_key
from .starting import SERVE_COMMAND, start_server, stop_server


@contextmanager
def reached(
    machine: Machine,
    url: str | None,
    name: str,
    report: Callable[[str], None],
    *,
    may_start: bool,
    may_make_key: bool = True,
    command: Sequence[str] = SERVE_COMMAND,
) -> Iterator[ServerClient]:
    """A client, for the time of the block, of a server that answers; it speaks with `name`'s key. Raises ServerError,
    and SecretsError as `own_key`.

    Where nobody named one, a server that is down is started; it is ended again where the block raises. A key that is
    made for this ends with the process.
    """
    own_key(machine.environ)  # no server is started for a key that it would refuse
    address = machine.resolve(url)
    with closing(ServerClient(address.url)) as client:
        if _is_up(client, address, may_start=may_start):
            client.use_key(access_key(machine, client.url, name, may_make=may_make_key))
            yield client
            return
    state = start_server(machine.omlx_home, machine.environ, report, command)
    try:
        with closing(ServerClient(state.url)) as client:
            client.use_key(access_key(machine, client.url, name, may_make=True))
            yield client
    except BaseException:
        stop_server(state)
        raise


def is_up(machine: Machine, url: str | None) -> bool:
    """Whether a server answers. Raises ServerDown where one that the user named does not."""
    address = machine.resolve(url)
    with closing(ServerClient(address.url)) as client:
        return _is_up(client, address, may_start=True)


def _is_up(client: ServerClient, address: ServerAddress, *, may_start: bool) -> bool:
    """False where a server is down that we may start; raises ServerDown where we may not, or it is about to end."""
    try:
        health = client.health()
    except ServerDown:
        if address.is_chosen or not may_start:
            raise down(address) from None
        return False
    if health.status == "stopping":
        raise ServerDown(f"the server at {address.url} finishes its requests and ends; try again when it has")
    return True


def down(address: ServerAddress) -> ServerDown:
    """That nothing answers there, with the remedy: `omlx serve` is none for a server that somebody named."""
    if not address.is_chosen:
        return ServerDown(f"no server runs at {address.url}; start it with `omlx serve`")
    return ServerDown(f"nothing answers at {address.url}, which {address.source} names. {_remedy(address.url)}")


def _remedy(url: str) -> str:
    parts = urlsplit(url)
    if not is_loopback(url) or parts.scheme != "http" or parts.path:
        return "Is it running, and reachable?"
    if parts.port is None:
        return f"It names no port, and omlx's own is {urlsplit(DEFAULT_URL).port} unless a setting says otherwise"
    host = "" if parts.hostname in ("127.0.0.1", "localhost") else f" --host {parts.hostname}"
    return f"Start it with `omlx serve{host} --port {parts.port}`"
