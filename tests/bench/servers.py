"""The servers that are compared: how each is started on the same model folder, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import httpx

from omlx.server.engine.blas import engine_environment

_START_SECONDS = 120
_POLL_SECONDS = 0.02
_SAVING_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Contender:
    """`argv` serves the model on the port that `{port}` stands for; `model` is its name in requests. With `home`
    omlx finds there what it saved before it was started anew."""

    name: str
    version: str
    argv: tuple[str, ...]
    model: str
    environment: Mapping[str, str] = field(repr=False)
    home: Path | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A server that has answered; `start_seconds` is the time from its start to its first one-token answer."""

    contender: Contender
    client: httpx.Client
    start_seconds: float
    process_id: int

    @property
    def port(self) -> int:
        return self.client.base_url.port or 80

    def resident_bytes(self) -> int:
        """What the server and its processes hold in memory."""
        return sum(_resident(process) for process in _family(self.process_id))

    def engine_bytes(self) -> int:
        """What the process with the model holds in memory: the largest."""
        return max(_resident(process) for process in _family(self.process_id))


def _family(process_id: int) -> list[int]:
    tasks = Path(f"/proc/{process_id}/task").glob("*/children")  # a child is its parent thread's
    children = [child for task in tasks for child in task.read_text().split()]
    return [process_id, *(member for child in children for member in _family(int(child)))]


def _resident(process_id: int) -> int:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def omlx(model: Path) -> Contender:
    """`omlx serve` as a user starts it: it finds its BLAS by itself."""
    argv = (str(Path(sys.executable).parent / "omlx"), "serve", "--model-dir", str(model.parent), "--port", "{port}")
    return Contender("omlx", version("omlx"), argv, model.name, os.environ)


def mlx_lm(model: Path) -> Contender:
    """`mlx_lm.server` at its defaults, with the BLAS that omlx uses: it would not look for one."""
    program = str(Path(sys.executable).parent / "mlx_lm.server")
    argv = (program, "--model", str(model), "--host", "127.0.0.1", "--port", "{port}", "--log-level", "ERROR")
    environment = {**engine_environment(os.environ), "HF_HUB_OFFLINE": "1"}
    return Contender("mlx_lm.server", version("mlx-lm"), argv, str(model), environment)


def peers(model: Path, folder: Path) -> list[Contender]:
    """Those that are installed, each in its own environment in `folder`, by `requirements` of the same name here."""
    commands = {
        "rapid-mlx": ("rapid-mlx", "serve", str(model), "--host", "127.0.0.1", "--port", "{port}"),
        "vllm-mlx": ("vllm-mlx", "serve", str(model), "--port", "{port}", "--continuous-batching"),
        "flyto-mlx": ("fmlx", "serve", "--model-dir", str(model.parent), "--port", "{port}"),
        "mlx-openai-server": (
            *("mlx-openai-server", "launch", "--model-type", "lm", "--model-path", str(model)),
            *("--host", "127.0.0.1", "--port", "{port}", "--no-log-file"),
        ),
    }
    environment = {**engine_environment(os.environ), "HF_HUB_OFFLINE": "1", "HOME": str(folder)}
    found = []
    for name, (program, *arguments) in commands.items():
        path = folder / name / "bin" / program
        if path.is_file():
            called = model.name if name == "flyto-mlx" else str(model)
            found.append(Contender(name, _pinned(name), (str(path), *arguments), called, environment))
    return found


def _pinned(name: str) -> str:
    """The version that the peer's requirements name."""
    lines = (Path(__file__).parent / "peers" / f"{name}.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))


@contextlib.contextmanager
def running(contender: Contender, log: Path) -> Iterator[Running]:
    """Start the server, wait for its first answer, and end it in any case."""
    port = _free_port()
    command = [part.replace("{port}", str(port)) for part in contender.argv]
    with (
        log.open("ab") as sink,
        tempfile.TemporaryDirectory() as home,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client,
    ):
        environment = {**contender.environment, "OMLX_HOME": str(contender.home or home)}
        began = time.perf_counter()
        # A pipe of its own: mlx.launch passes on what it reads.
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=sink, stderr=sink)
        try:
            _wait_for_answer(client, contender, process, log)
            yield Running(contender, client, time.perf_counter() - began, process.pid)
        finally:
            family = _family(process.pid) if process.poll() is None else []
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            for member in family:  # what mlx.launch starts is in no hurry to end with it
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            process.communicate()


def wait_until_saved(home: Path) -> None:
    """Until what omlx keeps on disk has stopped growing."""
    now, size, deadline = -2, -1, time.monotonic() + _SAVING_SECONDS
    while time.monotonic() < deadline:
        time.sleep(1)
        with contextlib.suppress(FileNotFoundError):  # one that has just got its last name
            now = sum(file.stat().st_size for file in (home / "cache").rglob("*") if file.is_file())
        if now == size:
            break
        size = now
    print(f"  on disk: {size / 1e9:.2f} GB", file=sys.stderr, flush=True)


def _wait_for_answer(client: httpx.Client, contender: Contender, process: subprocess.Popen[bytes], log: Path) -> None:
    body = {"model": contender.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{contender.name} ended with {process.returncode}; its log is {log}")
        with contextlib.suppress(httpx.TransportError):
            if client.post("/v1/chat/completions", json=body).is_success:
                return
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"{contender.name} did not answer within {_START_SECONDS} s; its log is {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
