"""Finding a server or starting one, and ending again what was started in vain."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from omlx.launcher.address import ServerAddress
from omlx.launcher.errors import ServerDown, WindowTooSmall
from omlx.launcher.machine import Machine
from omlx.launcher.reach import down, reached
from omlx.launcher.state import OmlxHome, ServerState, read_server_state, write_private

from .fake_server import FakeServer, Reply

NOBODY = "http://127.0.0.1:9"
LISTENS = """
import json, os, pathlib, signal, sys
path = pathlib.Path(sys.argv[1])
state = {"pid": os.getpid(), "host": "127.0.0.1", "port": 1, "url": "http://127.0.0.1:9", "instance_id": "started"}
path.with_suffix(".new").write_text(json.dumps(state))
path.with_suffix(".new").rename(path)
signal.pause()
"""


@pytest.fixture
def home(machine: Machine) -> OmlxHome:
    """The state file of a server that is alive and answers nobody."""
    state = f'{{"pid":{os.getpid()},"host":"127.0.0.1","port":9,"url":"{NOBODY}","instance_id":"old"}}'
    write_private(machine.omlx_home.server_state, state)
    return machine.omlx_home


@pytest.fixture
def command(home: OmlxHome) -> list[str]:
    return [sys.executable, "-c", LISTENS, str(home.server_state)]


def started(home: OmlxHome) -> ServerState:
    state = read_server_state(home)
    assert state is not None
    assert state.instance_id == "started"
    return state


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
@pytest.mark.parametrize("error", [WindowTooSmall("too small"), KeyboardInterrupt()])
def test_a_server_started_in_vain_is_ended_again(
    machine: Machine, home: OmlxHome, command: list[str], error: BaseException
):
    pids: list[int] = []

    def refuse() -> None:
        with reached(machine, None, "pi", lambda _: None, may_start=True, command=command):
            pids.append(started(home).pid)
            raise error

    with pytest.raises(type(error)):
        refuse()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
def test_a_server_that_is_used_goes_on(machine: Machine, home: OmlxHome, command: list[str]):
    with reached(machine, None, "pi", lambda _: None, may_start=True, command=command):
        pass
    pid = started(home).pid
    os.kill(pid, 9)
    assert os.waitpid(pid, 0)[0] == pid


@pytest.mark.usefixtures("home")
def test_nothing_is_started_where_it_may_not_be(machine: Machine, tmp_path: Path):
    marker = tmp_path / "ran"
    with (
        pytest.raises(ServerDown, match="start it with `omlx serve`"),
        reached(machine, None, "pi", lambda _: None, may_start=False, command=["/usr/bin/touch", str(marker)]),
    ):
        pass
    assert not marker.exists()


def test_a_server_that_is_about_to_end_is_not_launched_at(machine: Machine, server: FakeServer):
    server.answers["/health"] = lambda _: Reply({"status": "stopping"})
    with (
        pytest.raises(ServerDown, match="finishes its requests and ends; try again when it has"),
        reached(machine, server.url, "pi", lambda _: None, may_start=True, command=["/bin/false"]),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://127.0.0.1:9", "Start it with `omlx serve --port 9`"),
        ("http://localhost:9", "Start it with `omlx serve --port 9`"),
        ("http://[::1]:9", "Start it with `omlx serve --host ::1 --port 9`"),
        ("http://127.0.0.1", "It names no port, and omlx's own is 8000"),
        ("https://127.0.0.1:9", "Is it running, and reachable?"),
        ("http://10.0.0.7:9", "Is it running, and reachable?"),
    ],
)
def test_a_named_server_that_is_down_is_told_with_the_line_that_starts_one_there(url: str, remedy: str):
    assert remedy in str(down(ServerAddress(url, "--url", is_chosen=True)))
