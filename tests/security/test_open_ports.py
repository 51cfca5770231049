"""Nothing listens but the HTTP server: no port takes what another process has serialized."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ..api.test_shutdown import children_of, process

_LISTENING = "0A"


def sockets_of(pid: int) -> set[str]:
    links = subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"socket:\[(\d+)\]", links))


def open_ports(pid: int) -> set[tuple[str, int]]:
    """Protocol and port of every socket of this process that anybody may send something to."""
    held, found = sockets_of(pid), set[tuple[str, int]]()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if inode in held and (state == _LISTENING or name.startswith("udp")):
                found.add((name[:3], int(local.rpartition(":")[2], 16)))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_and_its_engines_listen_for_http_alone(tmp_path: Path):
    with process(tmp_path) as (server, url):
        body = {"model": "scripted", "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]}
        httpx.post(f"{url}/v1/messages", json=body, timeout=120).raise_for_status()
        children = children_of(server.pid)
        assert children
        assert open_ports(server.pid) == {("tcp", httpx.URL(url).port)}
        assert set().union(*map(open_ports, children)) == set()
