"""Two ranks under mlx.launch: one server. One that is killed is named to the client, and the group comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from omlx.server.engine.ranks import DISAGREES_STATUS

from ..api.admin.admin_serving import ADMIN_KEY, write_keys
from ..models.fake_hub import running_hub
from ..tiny_model import build_tiny_model, needs_embedded_model
from ..waiting import wait_until
from .harness import OMLX

pytestmark = [pytest.mark.e2e, needs_embedded_model]

_HOST = {"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}
_BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4000, "temperature": 0}


@contextmanager
def group(
    folder: Path, models: Path, *options: str, environment: Mapping[str, str] = os.environ, size: int = 2
) -> Iterator[tuple[httpx.Client, int]]:
    """A client of rank 0, and the id of mlx.launch's process, which has started them all."""
    home = folder / "home"
    serve = [OMLX, "serve", "--distributed", "--model-dir", str(models), "--port", "0", *options]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        environment = {**environment, "OMLX_HOME": str(home)}
        command = [*_launch(folder, size), *map(str, serve)]
        process = stack.enter_context(
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
        )
        try:
            state = home / "run" / "server.json"
            wait_until(state.is_file)
            client = stack.enter_context(httpx.Client(base_url=json.loads(state.read_text())["url"], timeout=60))
            wait_until(lambda: client.get("/ready").status_code == 200, 120)
            yield client, process.pid
            os.kill(json.loads(state.read_text())["pid"], signal.SIGTERM)
            process.wait(30)
        finally:
            for pid in [] if process.poll() is not None else [*_descendants(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait()


def _launch(folder: Path, size: int) -> list[str]:
    """The beginning of a command line, by which mlx.launch starts the rest on so many ranks."""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([_HOST] * size))
    launcher = [sys.executable, "-c", "from mlx._distributed_utils.launch import main; main()"]
    return [*launcher, "--hostfile", str(hosts), "--backend", "ring", "--starting-port", str(_free_ports(size)), "--"]


def _free_ports(count: int) -> int:
    """The first of so many neighbouring ports that are free now."""
    for port in range(30000, 32000, count):
        with ExitStack() as stack:
            try:
                for each in range(port, port + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", each)))
            except OSError:
                continue
            return port
    raise OSError("no free ports")


def _descendants(pid: int) -> dict[int, str]:
    """The command lines of the processes below this one, by their ids."""
    listed = subprocess.run(["ps", "-wwaxo", "pid=,ppid=,command="], capture_output=True, text=True, check=True).stdout
    found, below = {}, {pid}
    for line in sorted(listed.splitlines(), key=lambda line: int(line.split()[0])):
        child, parent, command = line.split(None, 2)
        if int(parent) in below:
            below.add(int(child))
            found[int(child)] = command
    return found


def engine_of(launcher: int, rank: int) -> int:
    """The engine of rank 0, which has a socket to an API process, or of a later one, which has none."""
    engines = {pid: command for pid, command in _descendants(launcher).items() if "omlx.server.engine" in command}
    return next(pid for pid, command in engines.items() if ("--fd" in command) is (rank == 0))


def _parent(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("rank", "how", "whole_rank", "reason"),
    [
        (1, signal.SIGKILL, False, "has ended"),
        (1, signal.SIGSTOP, False, "has ended"),
        (1, signal.SIGSTOP, True, "has not answered for 3 seconds"),
        (0, signal.SIGKILL, False, "was killed"),
        (0, signal.SIGSTOP, False, "has not answered for 3 seconds"),
    ],
    ids=[
        "its engine killed",
        "its engine stopped",
        "stopped as a whole for a while",
        "rank 0's engine killed",
        "rank 0's engine stopped",
    ],
)
def test_a_rank_that_is_lost_is_named_and_the_group_comes_back(
    tmp_path: Path, rank: int, how: signal.Signals, whole_rank: bool, reason: str
) -> None:
    build_tiny_model(tmp_path / "models" / "tiny")
    with group(tmp_path, tmp_path / "models") as (client, launcher):
        before = client.post("/v1/chat/completions", json={**_BODY, "max_tokens": 8}).raise_for_status().json()
        assert 'omlx:rank_memory_bytes{model_name="tiny",rank="1"}' in client.get("/metrics").text
        with client.stream("POST", "/v1/chat/completions", json={**_BODY, "stream": True}) as response:
            lines = response.iter_lines()
            next(line for line in lines if '"content"' in line)
            engine = engine_of(launcher, rank)
            processes = [_parent(engine), engine] if whole_rank else [engine]
            for pid in processes:
                os.kill(pid, how)
            records = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
        message = records[-1]["error"]["message"]
        assert f"rank {rank}" in message
        assert reason in message
        assert f"rank {rank}" in str(_unready(client)["reasons"])
        if whole_rank:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        wait_until(lambda: client.get("/ready").status_code == 200, 120)
        after = client.post("/v1/chat/completions", json={**_BODY, "max_tokens": 8}).raise_for_status().json()
        assert after["choices"][0]["message"] == before["choices"][0]["message"]


@pytest.mark.parametrize(
    ("path", "body", "delta"),
    [
        ("/v1/messages", {"messages": _BODY["messages"], "max_tokens": 4000}, "content_block_delta"),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 4000}, "response.output_text.delta"),
    ],
    ids=["Messages", "Responses"],
)
def test_every_protocol_s_stream_ends_with_its_own_error_that_names_the_rank(
    tmp_path: Path, path: str, body: dict[str, Any], delta: str
) -> None:
    build_tiny_model(tmp_path / "models" / "tiny")
    with group(tmp_path, tmp_path / "models") as (client, launcher):
        asked = {"model": "tiny", "temperature": 0, "stream": True, **body}
        with client.stream("POST", path, json=asked) as response:
            lines = response.iter_lines()
            next(line for line in lines if delta in line)
            os.kill(engine_of(launcher, 1), signal.SIGKILL)
            records = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
        last = records[-1]
        error = last["error"] if path == "/v1/messages" else last["response"]["error"]
        assert last["type"] == ("error" if path == "/v1/messages" else "response.failed")
        assert "rank 1" in error["message"]
        assert "has ended" in error["message"]
        wait_until(lambda: client.get("/ready").status_code == 200, 120)


def test_ranks_with_other_settings_end_under_mlx_launch_and_both_values_are_told(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "models" / "tiny")
    serve = (
        f"exec {OMLX} serve --distributed --port 0 --model-dir {tmp_path / 'models'} --max-num-seqs $((3 + MLX_RANK))"
    )
    environment = {**os.environ, "OMLX_HOME": str(tmp_path / "home")}
    subprocess.run([OMLX, "config", "set", "models.tiny.draft_model", "small"], env=environment, check=True)
    with subprocess.Popen(
        [*_launch(tmp_path, 2), "bash", "-c", serve],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as launcher:
        try:
            launcher.wait(300)
        finally:
            for pid in [] if launcher.poll() is not None else [*_descendants(launcher.pid), launcher.pid]:
                os.kill(pid, signal.SIGKILL)
        assert launcher.stdout is not None
        told = launcher.stdout.read()
    assert "rank 1 has engine.max_num_seqs '4', rank 0 has '3'; make them the same" in told
    assert f"Node with rank 1 exited with code {DISAGREES_STATUS}" in told
    assert "A group serves tiny, for which small does not draft" in told
    assert "Traceback" not in told


def test_a_group_serves_a_model_that_its_ranks_download(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "elsewhere" / "tiny")
    (tmp_path / "models").mkdir()
    with running_hub() as hub:
        hub.files = {file.name: file.read_bytes() for file in folder.iterdir()}
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"}
        with group(tmp_path, tmp_path / "models", "--model", "org/model", environment=environment) as (client, _):
            answer = client.post("/v1/chat/completions", json={**_BODY, "model": "org/model", "max_tokens": 8})
            assert answer.raise_for_status().json()["usage"]["completion_tokens"] == 8
            _work_as_with_any_server(str(client.base_url))
            write_keys(tmp_path / "home", ("admin", "admin", ADMIN_KEY))
            client.headers["authorization"] = f"Bearer {ADMIN_KEY}"
            (model,) = client.get("/admin/api/models").raise_for_status().json()
            assert (model["id"], model["state"]) == ("org/model", "loaded")
            refused = client.delete("/admin/api/loaded/org/model")
            assert (refused.status_code, "stop the server to end the group" in refused.text) == (409, True)
            assert client.get("/ready").status_code == 200
        assert hub.downloaded == ["model.safetensors"] * 2
    parts = tmp_path / "home" / "parts"
    assert sorted(str(path.relative_to(parts)) for path in parts.glob("*/*/*")) == [
        "rank0of2/org/model",
        "rank1of2/org/model",
    ]


def _work_as_with_any_server(url: str) -> None:
    """What wires agents and asks questions knows nothing of ranks."""
    for arguments in (["launch", "claude", "--print-env", "--yes"], ["ps"], ["status"]):
        done = subprocess.run([OMLX, *arguments, "--url", url], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "org/model" in done.stdout, arguments
    assert httpx.get(f"{url}/admin", follow_redirects=True).status_code == 200
    metrics = httpx.get(f"{url}/metrics").text
    for rank in (0, 1):
        for kind in ("memory", "prefix_cache"):
            assert f'omlx:rank_{kind}_bytes{{model_name="org/model",rank="{rank}"}}' in metrics


def _unready(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/ready")
    assert answer.status_code == 503
    return answer.json()
