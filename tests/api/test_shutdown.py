"""The server as its users start and stop it: a process of its own, a signal, an end that clients can read."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

_LONG_ANSWER = "x" * 100_000
_START_SECONDS = 60
_STOP_SECONDS = 5
"""What the README's users are promised, however many streams are open."""


@contextmanager
def process(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that writes a very long answer; its process and its address."""
    answers = home / "answers.json"
    answers.write_text(json.dumps([_LONG_ANSWER]))
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    server = subprocess.Popen([sys.executable, "-m", "tests.e2e.scripted_server", str(answers)], env=environment)
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
def test_a_signal_ends_the_server_and_every_open_request_in_five_seconds(tmp_path: Path, stop: signal.Signals):
    body = {
        "model": "scripted",
        "max_tokens": 90_000,
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
    }
    with (
        process(tmp_path) as (server, url),
        httpx.stream("POST", f"{url}/v1/messages", json=body, timeout=30) as response,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as half_sent,
    ):
        head = f"POST /v1/messages HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\n"
        half_sent.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
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
