"""The server as its users start and stop it: a process of its own, a signal, an end that clients can read."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from omlx.server.http_server import HttpServer

from ..text_model import build_text_model
from ..waiting import wait_until
from .serving import serving
from .test_server import MESSAGES, MESSAGES_BODY, streamed_text

_LONG_ANSWER = "x" * 100_000
_UNREAD_ANSWER = "y" * 40_000
"""Some 200 bytes of events a token: twice what all buffers on the way hold."""
_START_SECONDS = 120
_STOP_SECONDS = 60
_AT_ONCE_SECONDS = 60

_BODY = {
    "model": "scripted",
    "max_tokens": 90_000,
    "messages": [{"role": "user", "content": "hello"}],
    "stream": True,
}


@contextmanager
def process(
    home: Path, grace_seconds: float = 1.0, answer: str = _LONG_ANSWER
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that writes a very long answer; its process and its address."""
    answers = home / "answers.json"
    answers.write_text(json.dumps([answer]))
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-m", "tests.e2e.scripted_server", str(answers), str(grace_seconds)]
    server = subprocess.Popen(argv, env=environment)
    try:
        yield server, _address(home / ".omlx" / "run" / "server.json", server)
    finally:
        server.kill()
        server.wait()


def _address(state: Path, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while not state.is_file():
        assert server.poll() is None, "the server ended at its start"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return json.loads(state.read_text())["url"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_every_open_request(tmp_path: Path, stop: signal.Signals):
    with (
        process(tmp_path) as (server, url),
        httpx.stream("POST", f"{url}/v1/messages", json=_BODY, timeout=120) as response,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as half_sent,
    ):
        head = f"POST /v1/messages HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n"
        half_sent.sendall(f"{head}\r\n{{".encode())
        assert half_sent.recv(65536).startswith(b"HTTP/1.1 100")  # its handler waits for the rest
        pieces = response.iter_text()
        received = next(pieces)
        server.send_signal(stop)
        received += "".join(pieces)
        status = server.wait(_STOP_SECONDS)
        half_answer = half_sent.recv(65536).decode()
    assert status == 0
    last_event = [line for line in received.splitlines() if line.startswith("event: ")][-1]
    assert last_event == "event: error"
    assert half_answer.startswith("HTTP/1.1 503")
    assert '"type":"error"' in half_answer
    assert not (tmp_path / ".omlx" / "run" / "server.json").exists()


def test_a_second_signal_ends_the_server_at_once_and_leaves_no_child(tmp_path: Path):
    with (
        process(tmp_path, grace_seconds=600) as (server, url),
        httpx.Client(base_url=url, timeout=120) as other,
        httpx.stream("POST", f"{url}/v1/messages", json=_BODY, timeout=120) as response,
    ):
        pieces = response.iter_text()  # let go, it would close the answer
        next(pieces)
        children = children_of(server.pid)
        assert other.get("/ready").status_code == 200
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: other.get("/ready").status_code == 503)
        server.send_signal(signal.SIGINT)
        status = server.wait(_AT_ONCE_SECONDS)
    assert status == 0
    assert children
    assert not [pid for pid in children if _is_running(pid)]
    log = (tmp_path / ".omlx" / "logs" / "server.log").read_text()
    assert re.search(r"Stopping, SIGTERM received: \d running requests? ha(s|ve) 600 seconds to end", log)
    assert "Stopping at once, SIGINT received" in log
    assert re.search(r": Stopped; requests that were cut: \d$", log.splitlines()[-1])
    assert "Traceback" not in log


@pytest.mark.parametrize("milliseconds", range(0, 1000, 100))
def test_two_signals_at_any_moment_of_its_start_end_a_server_well_and_leave_nothing(tmp_path: Path, milliseconds: int):
    build_text_model(tmp_path / "models" / "tiny")
    environment = {**os.environ, "OMLX_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "omlx.server", "serve", "--port", "0"]
    log = tmp_path / "logs" / "server.log"
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_until(lambda: log.is_file() and "Discovered" in log.read_text())
        time.sleep(milliseconds / 1000)  # whatever moment of the start that is on this machine
        children = children_of(server.pid)
        for stop in (signal.SIGINT, signal.SIGTERM):
            os.killpg(server.pid, stop)
        said = server.communicate(timeout=_STOP_SECONDS)[1]
    finally:
        server.kill()
        server.wait()
    wait_until(lambda: not [pid for pid in children if _is_running(pid)])
    assert server.returncode == 0
    assert log.read_text().splitlines()[-1].endswith(": Stopped")
    assert "Traceback" not in said + log.read_text()
    assert not (tmp_path / "run" / "server.json").exists()


def test_after_a_signal_the_server_says_so_refuses_what_is_new_and_ends_what_runs_whole(tmp_path: Path):
    with (
        process(tmp_path, grace_seconds=600, answer=_UNREAD_ANSWER) as (server, url),
        httpx.stream("POST", f"{url}/v1/messages", json=_BODY, timeout=120) as response,
    ):
        pieces = response.iter_text()
        received = next(pieces)
        children = children_of(server.pid)
        for pid in (*children, server.pid):  # as systemd does it, which ends all that belongs to a service
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/ready", timeout=120).status_code == 503)
        ready = httpx.get(f"{url}/ready", timeout=120)
        refused = httpx.post(f"{url}/v1/messages", json=_BODY, timeout=120)
        received += "".join(pieces)
        status = server.wait(_STOP_SECONDS)
    assert (ready.status_code, ready.json()["status"]) == (503, "stopping")
    assert (refused.status_code, refused.json()["type"]) == (503, "error")
    assert streamed_text(MESSAGES, received) == _UNREAD_ANSWER
    assert "message_stop" in received
    assert status == 0
    assert (tmp_path / ".omlx" / "logs" / "server.log").read_text().splitlines()[-1].endswith(": Stopped")
    assert children
    assert not [pid for pid in children if _is_running(pid)]


async def test_a_stream_that_ends_within_the_grace_ends_whole(tmp_path: Path):
    async with (
        serving(tmp_path, "x" * 100, step_seconds=0.01, shutdown_grace_seconds=20) as server,
        server.client.stream("POST", MESSAGES, json={**MESSAGES_BODY, "stream": True}) as response,
    ):
        pieces = response.aiter_text()
        received = await anext(pieces)
        server.http.handle_exit(signal.SIGTERM, None)
        async for piece in pieces:
            received += piece
    assert streamed_text(MESSAGES, received) == "x" * 100
    assert "message_stop" in received


def test_a_second_signal_does_not_wait_for_what_the_engines_still_save(caplog: pytest.LogCaptureFixture):
    async def app(_scope: object, _receive: object, _send: object) -> None: ...

    called: list[str] = []
    words = ("drain", "end", "kill")
    drain, end, kill = (partial(called.append, word) for word in words)
    server = HttpServer(app, drain, end, 600, kill)
    server.handle_exit(signal.SIGTERM, None)
    assert called == ["drain"]
    assert not server.force_exit
    server.handle_exit(signal.SIGINT, None)
    assert called == ["drain", "kill"]
    assert server.force_exit
    assert not caplog.records  # a signal may come while another line is written, which no file allows


def test_what_is_cancelled_with_the_loop_is_no_error_and_a_fault_is(caplog: pytest.LogCaptureFixture):
    told = logging.getLogger("uvicorn.error")
    for error in (asyncio.CancelledError(), KeyError("a fault")):
        told.error("Exception in ASGI application", exc_info=error)
        told.error("Traceback\n%r", error)
    assert len(caplog.records) == 2
    assert "CancelledError" not in caplog.text


async def test_a_server_told_to_stop_takes_nothing_new(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        await server.client.post(MESSAGES, json=MESSAGES_BODY)
        server.pool.drain()
        refused = await server.client.post(MESSAGES, json=MESSAGES_BODY)
        ready = await server.client.get("/ready")
    assert (refused.status_code, ready.status_code) == (503, 503)
    assert ready.json()["status"] == "stopping"


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
