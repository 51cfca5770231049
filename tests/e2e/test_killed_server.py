"""A server that is killed, with no time to end anything: the next one starts, and finds what was kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ..api.test_shutdown import children_of
from ..tiny_model import build_tiny_model, needs_embedded_model
from ..waiting import wait_until
from .harness import OMLX

pytestmark = [pytest.mark.e2e, needs_embedded_model]

_PROMPT = "A few words, and again a few words. " * 100


@contextmanager
def served(home: Path, models: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A server that is ready; killed in the end where it still runs."""
    state = home / "run" / "server.json"
    command = [OMLX, "serve", "--model-dir", str(models), "--port", "0"]
    with (home / "log").open("ab") as log:
        server = subprocess.Popen(command, env={**os.environ, "OMLX_HOME": str(home)}, stdout=log, stderr=log)
    try:
        wait_until(lambda: state.is_file() and json.loads(state.read_text())["pid"] == server.pid)
        with httpx.Client(base_url=json.loads(state.read_text())["url"], timeout=60) as client:
            wait_until(lambda: client.get("/ready").status_code == 200)
            yield server, client
    finally:
        server.kill()
        server.wait(60)


def ask(client: httpx.Client, text: str) -> int:
    """How many tokens of the prompt were cached."""
    body = {"model": "tiny", "prompt": text, "max_tokens": 1}
    usage = client.post("/v1/completions", json=body).raise_for_status().json()["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"]


def is_running(pid: int) -> bool:
    """Also false for one that has ended and that nobody has waited for."""
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False)
    return listed.stdout.strip()[:1] not in ("", "Z")


def test_a_killed_server_comes_back_with_its_prefixes_and_leaves_no_engine(tmp_path: Path) -> None:
    models = tmp_path / "models"
    build_tiny_model(models / "tiny")
    for cycle in range(2):
        with served(tmp_path, models) as (server, client):
            assert (ask(client, _PROMPT) >= 512) is (cycle > 0)
            wait_until(lambda: len(list((tmp_path / "cache").rglob("*.safetensors"))) >= 3)
            engines = children_of(server.pid)
            assert engines
            body = {"model": "tiny", "prompt": f"{cycle} {_PROMPT}", "max_tokens": 4000, "stream": True}
            with client.stream("POST", "/v1/completions", json=body) as response:
                pieces = response.iter_text()
                next(pieces)
                server.send_signal(signal.SIGKILL)
                with pytest.raises(httpx.TransportError):
                    "".join(pieces)
        wait_until(lambda: not any(map(is_running, engines)))  # noqa: B023
    with served(tmp_path, models) as (_, client):
        assert ask(client, _PROMPT) >= 512
