"""What runs inside the network namespace: `python -m tests.e2e.inside JOB.json RESULT.json`.

Brings loopback up, starts a name server and the server, runs the agents one after another through a recording proxy,
and ends the server. Nothing here judges: the result is what happened.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .recording_proxy import recording_proxy
from .resolver import Resolver, resolver

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_START_SECONDS = 120
_STOP_SECONDS = 60


@dataclass(frozen=True)
class Job:
    """`serve` starts the server; each of `runs` is an agent's command line, where `{url}` is the server's."""

    directory: str
    omlx_home: str
    environment: dict[str, str]
    serve: list[str]
    runs: list[list[str]]
    run_seconds: float


@dataclass(frozen=True)
class Run:
    """An agent's end. `exit_code` is None where its time was up, `names` are the hosts looked up meanwhile."""

    exit_code: int | None
    output: str
    errors: str
    seconds: float
    names: list[str]


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def wait_for_url(omlx_home: Path, server: subprocess.Popen[bytes]) -> str | None:
    """The address the server publishes; None where it ended first or took too long."""
    state = omlx_home / "run" / "server.json"
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if state.is_file():
            return json.loads(state.read_text())["url"]
        time.sleep(0.05)
    return None


def run_agent(command: list[str], job: Job, asked: Resolver) -> Run:
    began, known = time.monotonic(), len(asked.names)
    try:
        done = subprocess.run(
            command,
            cwd=job.directory,
            env=job.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=job.run_seconds,
            check=False,
        )
        code, output, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        code, output, errors = None, late.stdout or b"", late.stderr or b""
    said, complained = (text.decode("utf-8", "replace") for text in (output, errors))
    return Run(code, said, complained, time.monotonic() - began, sorted(set(asked.names[known:])))


def carry_out(job: Job, log: Path, asked: Resolver) -> dict[str, object]:
    with log.open("wb") as sink:
        server = subprocess.Popen(job.serve, cwd=job.directory, env=job.environment, stdout=sink, stderr=sink)
    runs: list[Run] = []
    exchanges: list[dict[str, object]] = []
    try:
        url = wait_for_url(Path(job.omlx_home), server)
        if url is not None:
            with recording_proxy(url) as proxy:
                for command in job.runs:
                    runs.append(run_agent([part.replace("{url}", proxy.url) for part in command], job, asked))
                exchanges = [asdict(exchange) for exchange in proxy.exchanges]
    finally:
        server.terminate()
        try:
            code: int | None = server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            code = None
    return {
        "server_exit_code": code,
        "server_log": log.read_text(errors="replace"),
        "runs": [asdict(run) for run in runs],
        "exchanges": exchanges,
    }


def main() -> None:
    job_path, result_path = map(Path, sys.argv[1:])
    bring_loopback_up()
    os.umask(0o077)
    job = Job(**json.loads(job_path.read_text()))
    with resolver(result_path.parent) as asked:
        result = carry_out(job, result_path.with_suffix(".log"), asked)
    result_path.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
