"""Whom a process and those it started are connected to over TCP: from /proc on Linux, from `lsof` elsewhere."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Peer = tuple[str, int]
"""An address and a port."""

_ESTABLISHED, _LISTENING = "01", "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_LSOF_NAME = re.compile(r"n(\S+):(\d+)->(\S+):(\d+)$")


@dataclass(frozen=True, slots=True)
class _Socket:
    inode: str
    local: Peer
    remote: Peer
    state: str


def peers_of(pid: int, own_port: int | None, proc: Path) -> set[Peer]:
    """The far ends of the connections of `pid` and its descendants.

    Not among them: `own_port` on this machine, and ports on which one of them listens itself, from either end. A server
    that the launch has started is a child of the agent that the launch became.
    """
    if not (proc / "net" / "tcp").exists():
        ends = [end for end in _from_lsof(pid) if end[0][1] != own_port]
        return {far for _, far in ends if not (far[1] == own_port and _is_loopback(far[0]))}
    inodes = set(_inodes(_family(pid, proc), proc))
    sockets = [socket for socket in _sockets(proc) if socket.inode in inodes]
    near = {socket.local[1] for socket in sockets if socket.state == _LISTENING} | {own_port}
    far = {socket.remote for socket in sockets if socket.state == _ESTABLISHED and socket.local[1] not in near}
    return {peer for peer in far if not (peer[1] in near and _is_loopback(peer[0]))}


def _family(pid: int, proc: Path) -> set[str]:
    """The process and its descendants."""
    children: dict[str, list[str]] = {}
    for folder in proc.glob("[0-9]*"):
        try:
            # The name in brackets may hold anything; after it come the state and the parent.
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(folder.name)
    found: set[str] = set()
    waiting = [str(pid)]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += children.get(each, [])
    return found


def _inodes(pids: Iterable[str], proc: Path) -> Iterator[str]:
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
            for link in list((proc / pid / "fd").iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    found = _SOCKET.fullmatch(str(link.readlink()))
                    if found:
                        yield found[1]


def _sockets(proc: Path) -> Iterator[_Socket]:
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            yield _Socket(fields[9], _peer(fields[1]), _peer(fields[2]), fields[3])


def _peer(text: str) -> Peer:
    """`0100007F:1F90` is 127.0.0.1:8080: words of four bytes in the machine's order, which is little-endian."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    packed = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    known = ipaddress.ip_address(packed)
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    return str(known), int(port, 16)


def _from_lsof(pid: int) -> set[tuple[Peer, Peer]]:
    """The near and the far end of each connection."""
    command = ["lsof", "-nP", "-a", "-g", str(pid), "-iTCP", "-sTCP:ESTABLISHED", "-Fn"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return set()
    names = (found for found in map(_LSOF_NAME.fullmatch, listed.splitlines()) if found)
    return {((found[1].strip("[]"), int(found[2])), (found[3].strip("[]"), int(found[4]))) for found in names}


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
