"""Starting the server, with small programs in its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omlx.launcher.client import ServerClient
from omlx.launcher.errors import StartFailed
from omlx.launcher.starting import start_server, wait_until_loaded
from omlx.launcher.state import OmlxHome

from .fake_server import FakeServer, Reply

LISTENS = """
import json, os, pathlib, signal
path = pathlib.Path(os.environ["OMLX_HOME"], "run", "server.json")
path.parent.mkdir(parents=True)
state = {"pid": os.getpid(), "host": "::", "port": 8123, "url": "http://[::1]:8123", "instance_id": os.getcwd()}
path.with_suffix(".new").write_text(json.dumps(state))
path.with_suffix(".new").rename(path)
signal.pause()
"""
FAILS = "import sys; print('loading', flush=True); sys.exit('port 8000 is in use')"
HANGS = "import signal; signal.pause()"


@pytest.fixture
def home(tmp_path: Path) -> OmlxHome:
    return OmlxHome(tmp_path / "omlx")


@pytest.fixture
def start(home: OmlxHome) -> Iterator[Callable[..., object]]:
    """Starts a Python program as the server; whatever it left running is ended afterwards."""
    pids: list[int] = []

    def started(program: str, timeout_seconds: float = 60.0) -> object:
        environ = {"OMLX_HOME": str(home.root), "PATH": os.environ["PATH"]}
        state = start_server(home, environ, lambda _: None, [sys.executable, "-c", program], timeout_seconds)
        pids.append(state.pid)
        return state

    yield started
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
def test_a_started_server_is_found_by_its_own_state_file(start: Callable[..., object], home: OmlxHome):
    state = start(LISTENS)
    assert getattr(state, "url", None) == "http://[::1]:8123"
    assert getattr(state, "instance_id", None) == str(home.root)


def test_a_server_that_ends_at_once_is_explained_by_its_log(start: Callable[..., object], home: OmlxHome):
    home.start_output.parent.mkdir(parents=True)
    home.start_output.write_text("an older line\n")
    with pytest.raises(StartFailed, match="exit code 1") as error:
        start(FAILS)
    assert "port 8000 is in use" in str(error.value)
    assert str(home.start_output) in str(error.value)
    assert "an older line" not in str(error.value)


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
def test_a_server_that_another_launch_has_just_started_is_taken(home: OmlxHome):
    home.server_lock.parent.mkdir(parents=True)
    quicker = f"import fcntl; lock = open({str(home.server_lock)!r}, 'wb'); fcntl.flock(lock, fcntl.LOCK_EX)\n"
    quicker += "import time; print(flush=True); time.sleep(1)" + LISTENS.replace("path.parent.mkdir(parents=True)", "")
    environ = {"OMLX_HOME": str(home.root), "PATH": os.environ["PATH"]}
    with subprocess.Popen([sys.executable, "-c", quicker], env=environ, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        try:
            state = start_server(home, environ, lambda _: None, [sys.executable, "-c", FAILS])
            assert state.pid == first.pid
        finally:
            first.kill()


def test_a_server_that_never_listens_is_ended_and_reported(start: Callable[..., object]):
    with pytest.raises(StartFailed, match="did not listen within"):
        start(HANGS, timeout_seconds=0.0)


def test_loading_is_waited_for_with_progress(server: FakeServer):
    answers = iter([{"status": "loading", "loading": ["m"]}, {"status": "ok"}])
    server.answers["/health"] = lambda _: Reply(next(answers))
    lines: list[str] = []
    client = ServerClient(server.url)
    wait_until_loaded(client, ["m"], lines.append)
    client.close()
    assert lines == ["loading m… 0 s"]


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ({"status": "degraded", "failed": ["m"]}, "could not load m"),
        ({"status": "loading", "loading": ["m"]}, "m did not load within"),
    ],
)
def test_a_model_that_does_not_load_ends_the_wait(server: FakeServer, health: dict[str, object], words: str):
    server.answers["/health"] = lambda _: Reply(health)
    client = ServerClient(server.url)
    with pytest.raises(StartFailed, match=words):
        wait_until_loaded(client, ["m"], lambda _: None, timeout_seconds=0.0)
    client.close()


def test_other_models_are_not_waited_for(server: FakeServer):
    server.answers["/health"] = lambda _: Reply({"status": "degraded", "failed": ["n"], "loading": ["o"]})
    client = ServerClient(server.url)
    wait_until_loaded(client, ["m"], lambda _: None)
    client.close()
