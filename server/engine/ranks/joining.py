"""How a group comes together: MLX's back end, the links beside it, and whether all ranks run the same thing."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ...errors import EngineFailure, EngineUnavailable, SettingsError
from ..messages import RankMemory
from . import RANK_VARIABLES
from .control import Meeting, Members, Membership
from .group import MlxRanks
from .progress import Progress

_ELSEWHERE = ("192.0.2.1", 9)
"""An address set apart for documentation, RFC 5737."""
_decoder = msgspec.msgpack.Decoder(dict[str, str])


def join(environment: Mapping[str, str] = os.environ) -> MlxRanks:
    """The group this process was started in; waits until all of it is there.

    Raises `SettingsError` where it was started in none, and `EngineFailure` where the others do not come.
    """
    import mlx.core as mx

    try:
        return MlxRanks(mx.distributed.init(strict=True))
    except RuntimeError as error:
        if any(environment.get(name) for name in RANK_VARIABLES):
            raise EngineFailure(
                f"the other ranks of the group were not reached ({error}); one that has ended says in its own log why, "
                "and `omlx cluster check --hosts FILE` tells whether the machines reach one another"
            ) from error
        raise SettingsError(
            f"this process is not one of a group ({error}); start it with mlx.launch, for example "
            "`mlx.launch --hostfile hosts.json -- omlx serve --distributed`"
        ) from error


def link(
    ranks: MlxRanks,
    environment: Mapping[str, str],
    memory: Callable[[], RankMemory],
    progress: Progress,
    on_loss: Callable[[str], None],
    on_stall: Callable[[str], None],
) -> Members | Membership:
    """Every rank's link to rank 0, set up with the group's own means.

    From another thread, `on_loss` is called when one is lost, and rank 0's `on_stall` when one holds up the others.
    Raises `EngineFailure` where one cannot be made.
    """
    if ranks.rank:
        meeting = msgspec.msgpack.decode(ranks.broadcast(), type=Meeting)
        return Membership(meeting, ranks.rank, memory, progress, on_loss)
    host = leader_host(environment)
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    members = Members(listener, ranks.size, memory, progress, on_loss, on_stall)
    ranks.broadcast(msgspec.msgpack.encode(Meeting(host, listener.getsockname()[1], members.token)))
    members.meet()
    return members


def leader_host(environment: Mapping[str, str]) -> str:
    """Where the other ranks can reach this one, rank 0, by what MLX's launchers say to its back ends."""
    hostfile = environment.get("MLX_HOSTFILE")
    if hostfile:
        address: Any = json.loads(Path(hostfile).read_text())[0]
        first = address[0] if isinstance(address, list) else address
        return first.rpartition(":")[0].strip("[]")
    coordinator = environment.get("MLX_JACCL_COORDINATOR")
    if coordinator:
        return coordinator.rpartition(":")[0].strip("[]")
    return environment.get("NCCL_HOST_IP") or _own_address()  # MPI says nothing


def _own_address() -> str:
    """An address of this machine's in a network: its name's, or what it would send from. Debian gives a machine's own
    name to 127.0.1.1. One in no network has ranks of its own only, which reach it as 127.0.0.1."""
    with contextlib.suppress(OSError):
        for *_, address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET):
            if not ipaddress.ip_address(address[0]).is_loopback:
                return str(address[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)  # looks up a route, and sends nothing
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def agree(ranks: MlxRanks, facts: Mapping[str, str]) -> None:
    """Go on only where all ranks have the same facts.

    Raises `EngineUnavailable` that names the first difference, with both values.
    """
    everyone = [_decoder.decode(raw) for raw in ranks.gather_bytes(msgspec.msgpack.encode(dict(facts)))]
    for rank, theirs in enumerate(everyone):
        for name, ours in everyone[0].items():
            if theirs.get(name) != ours:
                raise EngineUnavailable(
                    f"rank {rank} has {name} {theirs.get(name)!r}, rank 0 has {ours!r}; make them the same"
                )


def die(status: int) -> None:
    """End this process from any thread, though another one waits in a collective for ever."""
    os._exit(status)
