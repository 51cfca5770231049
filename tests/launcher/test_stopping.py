"""`omlx stop`, with small programs as the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omlx.launcher.errors import StateError
from omlx.launcher.state import OmlxHome
from omlx.launcher.stopping import stop_running

ENDS = "import signal; signal.signal(15, lambda *_: exit(0)); print('up', flush=True)\nwhile True: signal.pause()"
STUBBORN = "import signal; signal.signal(15, lambda *_: None); print('up', flush=True)\nwhile True: signal.pause()"


@pytest.fixture
def home(tmp_path: Path) -> OmlxHome:
    return OmlxHome(tmp_path)


@pytest.fixture
def run(home: OmlxHome) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Runs a program that passes for the server of this home, and reaps it when it ends, as init would."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str, name: str = "omlx.server") -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", program, name], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        home.server_state.parent.mkdir()
        state = {"pid": process.pid, "host": "127.0.0.1", "port": 1, "url": "http://127.0.0.1:1", "instance_id": "i"}
        home.server_state.write_text(json.dumps(state))
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def reaper(process: subprocess.Popen[bytes]) -> Callable[[str], None]:
    return lambda _: (process.poll(), None)[1]


def test_a_server_is_asked_to_end(home: OmlxHome, run: Callable[..., subprocess.Popen[bytes]]):
    process = run(ENDS)
    stopped = stop_running(home, 30.0, reaper(process))
    assert stopped is not None
    assert stopped.pid == process.pid
    assert process.wait() == 0
    assert stop_running(home, 1.0, lambda _: None) is None


def test_a_server_that_does_not_listen_is_killed(
    home: OmlxHome, run: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("omlx.launcher.stopping._LAST_SECONDS", 0.2)
    process = run(STUBBORN)
    assert stop_running(home, 0.1, reaper(process)) is not None
    assert process.wait() == -9
    assert not home.server_state.exists()


def test_a_process_that_is_no_server_is_left_alone(home: OmlxHome, run: Callable[..., subprocess.Popen[bytes]]):
    process = run(ENDS, "something-else")
    with pytest.raises(StateError, match="is no omlx server any more"):
        stop_running(home, 1.0, lambda _: None)
    assert process.poll() is None
    os.kill(process.pid, 0)
