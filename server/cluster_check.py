"""What `omlx cluster check` does: a look at every host, and a small group that mlx.launch starts on them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from .engine.ranks import CHECK_MARK
from .errors import SettingsError
from .models.hosts import BACKENDS, Host, HostFile

_REACH_SECONDS = 10
_CHECK_SECONDS = 90
_CHECK = [sys.executable, "-P", "-m", "omlx.server.engine.ranks.checking"]
_LAUNCH = [sys.executable, "-P", "-c", "from mlx._distributed_utils.launch import main; main()"]
_OLD_MPI = 'unknown option "--output"'
_MUST_MATCH = ("omlx", "mlx", "mlx-lm")


@dataclass(frozen=True, slots=True)
class Report:
    """`ranks` are each one's facts: its host and versions."""

    ranks: list[dict[str, str]]
    latency_seconds: float
    bytes_per_second: float

    @property
    def differences(self) -> list[str]:
        found = {name: [facts[name] for facts in self.ranks] for name in _MUST_MATCH}
        return [f"{name} is {', '.join(values)}" for name, values in found.items() if len(set(values)) > 1]


def unreachable(hosts: Sequence[Host]) -> dict[str, str]:
    """Why ssh does not get in, by host."""
    away: dict[str, str] = {}
    for name in dict.fromkeys(host.name for host in hosts if not host.is_this_machine):
        command = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={_REACH_SECONDS}", name, "true"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=2 * _REACH_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            away[name] = str(error)
        else:
            if done.returncode:
                away[name] = done.stderr.strip() or f"ssh ended with status {done.returncode}"
    return away


def check_group(file: HostFile, backend: str) -> Report:
    """Start a group on the hosts and have it time itself. Raises `SettingsError` with what it said."""
    if backend not in BACKENDS:
        raise SettingsError(f"{file.path}: MLX has no back end {backend!r}; it has {', '.join(BACKENDS)}")
    if backend == "mpi" and shutil.which("mpirun") is None:
        raise SettingsError(
            "the back end mpi needs mpirun, which is not on this machine's PATH; install Open MPI on every machine, "
            "or take --backend ring, which needs nothing"
        )
    command = [*_LAUNCH, "--hostfile", str(file.path), "--backend", backend, "--", *_CHECK]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = _read(process)
        finally:
            process.kill()
    line = next((line for line in said.splitlines() if line.startswith(CHECK_MARK)), None)
    if line is None and backend == "mpi" and _OLD_MPI in said:
        raise SettingsError(
            "mlx.launch starts MPI with the options of Open MPI 5, which this machine's mpirun does not know; install "
            "Open MPI 5 on every machine, or take --backend ring, which needs nothing"
        )
    if line is None:
        raise SettingsError(
            f"the group did not come together over {backend}: {said.strip()[-2000:] or 'it said nothing'}"
        )
    return msgspec.convert(json.loads(line.removeprefix(CHECK_MARK)), Report)


def _read(process: subprocess.Popen[str]) -> str:
    """What it prints until it ends, or for as long as that may take. mlx.launch wants its input to stay open."""
    try:
        process.wait(_CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
    assert process.stdout is not None
    return process.stdout.read()
