"""Waiting for the agent's first request: said only where it ended without one and had gone elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omlx.launcher.arrival import Arrival
from omlx.launcher.connections import Peer, peers_of
from omlx.launcher.machine import Machine
from omlx.launcher.probing import ask_status
from omlx.launcher.showing import status_json, status_text
from omlx.launcher.state import OmlxHome
from omlx.launcher.strays import Stray, forget, note, strays
from omlx.launcher.watching import CLEAR_SECONDS, told, watch, watch_in_background

from ..waiting import wait_until
from .fake_server import FakeServer, Reply

ELSEWHERE: Peer = ("192.0.2.7", 443)
CONNECTS = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("connected", flush=True)
sys.stdin.read()
"""


class Agent:
    """Ends after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def has_ended(self, seconds: float) -> bool:
        del seconds
        self.looks -= 1
        return self.looks <= 0


def never(_: set[Peer]) -> None:
    raise AssertionError("nothing is clear")


def test_an_agent_that_asked_nobody_here_is_told_with_whom_it_spoke():
    seen: list[set[Peer]] = [set(), {ELSEWHERE}, set()]
    peers = iter(seen)
    assert watch(lambda: 0, Agent(3).has_ended, lambda: next(peers), never) == {ELSEWHERE}
    line = told("Claude Code", "http://127.0.0.1:8000", {ELSEWHERE})
    assert "Claude Code ended without a request to http://127.0.0.1:8000" in line
    assert "192.0.2.7:443" in line


@pytest.mark.parametrize("count", [1, None])
def test_the_first_request_ends_the_watch_and_so_does_a_server_that_is_gone(count: int | None):
    counts = iter([0, count])
    agent = Agent(100)
    assert watch(lambda: next(counts), agent.has_ended, lambda: {ELSEWHERE}, never) == set()
    assert agent.looks == 98


def test_an_agent_that_went_nowhere_is_not_mentioned():
    assert watch(lambda: 0, Agent(2).has_ended, set[Peer], never) == set()


class Clock(Agent):
    """Counts the seconds that were waited."""

    seconds = 0.0

    def has_ended(self, seconds: float) -> bool:
        self.seconds += seconds
        return super().has_ended(seconds)


def test_it_is_said_once_when_it_is_clear_and_not_while_an_agent_only_looked_around():
    clock = Clock(40)
    said: list[tuple[set[Peer], float]] = []
    watch(lambda: 0, clock.has_ended, lambda: {ELSEWHERE}, lambda peers: said.append((peers, clock.seconds)))
    ((peers, seconds),) = said
    assert peers == {ELSEWHERE}
    assert CLEAR_SECONDS <= seconds < CLEAR_SECONDS + 3
    looks: Iterator[set[Peer]] = iter([set[Peer](), {ELSEWHERE}, *(set[Peer]() for _ in range(60))])
    assert watch(lambda: 0, Clock(40).has_ended, lambda: next(looks), never) == {ELSEWHERE}


def test_status_names_an_agent_elsewhere_while_it_runs(machine: Machine, server: FakeServer):
    server.serve_models({"id": "m"})
    stray = Stray(os.getpid(), "Pi", server.url, ("192.0.2.7:443",))
    note(machine.omlx_home, stray)
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    note(machine.omlx_home, Stray(gone.pid, "Codex", server.url, ("192.0.2.8:443",)))
    status = ask_status(machine, server.url)
    assert status.strays == (stray,)
    assert f"Pi (process {os.getpid()}) has sent no request to {server.url}" in status_text(status)
    assert json.loads(status_json(status))["strays"][0]["peers"] == ["192.0.2.7:443"]
    forget(machine.omlx_home, os.getpid())
    assert strays(machine.omlx_home) == ()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="connections are read from /proc here, which is Linux's")
def test_the_connections_of_an_agents_children_are_found_but_for_our_own(listener: socket.socket):
    port = listener.getsockname()[1]
    shell = ["/bin/sh", "-c", f'"$0" -c "$1" {port}; true', sys.executable, CONNECTS]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"connected\n"
        assert peers_of(agent.pid, None, Path("/proc")) == {("127.0.0.1", port)}
        assert peers_of(agent.pid, port, Path("/proc")) == set()
        assert ("127.0.0.1", port) not in peers_of(os.getpid(), None, Path("/proc")), "it listens there itself"
        agent.communicate()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="connections are read from /proc here, which is Linux's")
def test_a_server_that_is_the_agents_child_is_not_the_agents_connection(listener: socket.socket):
    """As one is that the launch has started: the far end of what it accepted is any port of the agent's."""
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as agent, listener.accept()[0]:
        assert agent.getsockname() not in peers_of(os.getpid(), port, Path("/proc"))


def test_an_ipv6_connection_is_read_from_the_table(tmp_path: Path):
    header = "  sl  local_address remote_address st tx rx tr tm retrnsmt uid timeout inode\n"
    address = "B80D0120000000000000000001000000"
    line = f"   0: {'0' * 32}:A1B2 {address}:01BB 01 0:0 0:0 0 0 0 77 1\n"
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(header)
    (tmp_path / "net" / "tcp6").write_text(header + line)
    (tmp_path / "5" / "fd").mkdir(parents=True)
    (tmp_path / "5" / "fd" / "3").symlink_to("socket:[77]")
    (tmp_path / "5" / "stat").write_text("5 (a ) name) S 1 5 5")
    assert peers_of(5, None, tmp_path) == {("2001:db8::1", 443)}


@pytest.mark.skipif(sys.platform != "linux", reason="its connections are read from /proc here, which is Linux's")
def test_the_watcher_speaks_when_the_agent_has_ended_and_is_no_child_of_it(
    server: FakeServer, listener: socket.socket, tmp_path: Path
):
    server.answers["/v1/launches/abc"] = lambda _: Reply({"num_requests": 0})
    port = listener.getsockname()[1]
    arrival = Arrival(server.url, "abc", "Pi", "the-launchs-key")
    errors = tmp_path / "errors"
    start = (
        f"from tests.launcher.test_watching import *; begin(Arrival{astuple_of(arrival)}, {port}, {str(tmp_path)!r})"
    )
    with (
        errors.open("wb") as sink,
        subprocess.Popen(
            [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink
        ) as agent,
    ):
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"connected\n"
        wait_until(lambda: len([each for each in server.requests if each.path == "/v1/launches/abc"]) >= 2)
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        agent.communicate()
    wait_until(lambda: errors.read_text().endswith("leads it there.\n"))
    assert children == []
    assert errors.read_text() == told("Pi", server.url, {("127.0.0.1", port)}) + "\n"
    assert {each.headers["authorization"] for each in server.requests} == {"Bearer the-launchs-key"}


@pytest.mark.skipif(sys.platform != "linux", reason="its connections are read from /proc here, which is Linux's")
@pytest.mark.parametrize("is_terminal", [True, False])
def test_while_the_agent_runs_its_terminal_is_left_to_it_and_a_log_is_told_at_once(
    server: FakeServer, listener: socket.socket, tmp_path: Path, is_terminal: bool
):
    server.answers["/v1/launches/abc"] = lambda _: Reply({"num_requests": 0})
    port = listener.getsockname()[1]
    reading, writing = pty.openpty() if is_terminal else os.pipe()
    agent = subprocess.Popen([sys.executable, "-c", CONNECTS, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    at_once = "import omlx.launcher.watching as watching; watching.CLEAR_SECONDS = 0.2; watching.main()"
    watched = (str(tmp_path), str(agent.pid), server.url, "abc", "Pi")
    environ = {**os.environ, "OMLX_API_KEY": "k"}
    watcher = subprocess.Popen([sys.executable, "-c", at_once, *watched], env=environ, stderr=writing)
    wait_until(lambda: len(strays(OmlxHome(tmp_path))) == 1)
    if is_terminal:
        assert select.select([reading], [], [], 0)[0] == []
    else:
        assert b"omlx: Pi (process" in os.read(reading, 4096)
    with agent:
        agent.communicate()
    assert watcher.wait(60) == 0
    os.close(writing)
    assert strays(OmlxHome(tmp_path)) == ()
    said = b""
    with contextlib.suppress(OSError):  # which is how a terminal ends
        said = os.read(reading, 4096)
    os.close(reading)
    assert (b"Pi ended without a request" in said) is is_terminal


def astuple_of(arrival: Arrival) -> tuple[str, str, str, str]:
    return arrival.url, arrival.launch_id, arrival.title, arrival.api_key


def begin(arrival: Arrival, port: int, home: str) -> None:
    """Watch this process, and become one that connects elsewhere."""
    watch_in_background(arrival, os.environ, OmlxHome(Path(home)))
    os.execv(sys.executable, [sys.executable, "-c", CONNECTS, str(port)])
