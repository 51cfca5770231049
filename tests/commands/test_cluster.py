"""`omlx cluster`, on two ranks of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omlx.server.cluster_check import Report

from ..engine.ranks.models import write_llama
from ..models.fake_hub import running_hub


def cluster(*arguments: str, hub_url: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "omlx.server", "cluster", *arguments]
    environment = {**os.environ, "HF_ENDPOINT": hub_url}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def hosts(folder: Path, *names: str, **facts: float) -> str:
    path = folder / "hosts.json"
    path.write_text(json.dumps([{"ssh": name, "ips": ["127.0.0.1"], **facts} for name in names]))
    return str(path)


def test_a_plan_says_what_each_host_holds_and_whether_it_fits(tmp_path: Path):
    model = str(write_llama(tmp_path / "model"))
    fitting = cluster("plan", model, "--hosts", hosts(tmp_path, "mac-1", "mac-2", memory_gb=64), "--json")
    assert fitting.returncode == 0, fitting.stderr
    assert [rank["fits"] for rank in json.loads(fitting.stdout)["ranks"]] == [True, True]
    too_small = cluster("plan", model, "--hosts", hosts(tmp_path, "mac-1", "mac-2", memory_gb=1e-4))
    assert too_small.returncode == 1
    assert too_small.stdout.count(" no") == 2


def test_a_model_of_the_hub_is_planned_by_its_headers(tmp_path: Path):
    model = write_llama(tmp_path / "model")
    with running_hub() as hub:
        hub.files = {file.name: file.read_bytes() for file in model.iterdir()}
        told = [
            cluster("plan", name, "--hosts", hosts(tmp_path, "a", "b"), "--json", hub_url=hub.url)
            for name in ("org/model", str(model))
        ]
        assert hub.downloaded == []
    assert [plan.returncode for plan in told] == [0, 0], told[0].stderr
    from_hub, here = (json.loads(plan.stdout)["ranks"] for plan in told)
    assert from_hub == here


def test_a_check_tells_versions_latency_and_bandwidth(tmp_path: Path):
    told = cluster("check", "--hosts", hosts(tmp_path, "127.0.0.1", "127.0.0.1"), "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    report = json.loads(told.stdout)
    assert len(report["ranks"]) == 2
    assert report["differences"] == []
    assert report["latency_seconds"] > 0
    assert report["bytes_per_second"] > 0


def test_a_host_that_ssh_does_not_reach_is_named(tmp_path: Path):
    told = cluster("check", "--hosts", hosts(tmp_path, "no-such-host.invalid"))
    assert told.returncode == 1
    assert "no-such-host.invalid" in told.stderr


def test_versions_that_differ_are_named_in_the_order_of_ranks():
    same = {"omlx": "1", "mlx": "0.32.0", "mlx-lm": "0.32"}
    report = Report([{"host": "a", **same}, {"host": "b", **same, "mlx": "0.31.2"}], 1e-4, 1e9)
    assert report.differences == ["mlx is 0.32.0, 0.31.2"]


def test_a_back_end_that_cannot_be_had_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = hosts(tmp_path, "127.0.0.1", "127.0.0.1")
    unknown = cluster("check", "--hosts", file, "--backend", "bogus")
    assert unknown.returncode == 2
    assert "'ring', 'jaccl', 'jaccl-ring', 'mpi', 'nccl'" in unknown.stderr
    mpirun = tmp_path / "mpirun"
    mpirun.write_text(
        "#!/bin/sh\necho 'mpirun: Error: unknown option \"--output\"' >&2\nexit 1\n"
    )  # as Open MPI 4 does
    mpirun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    old = cluster("check", "--hosts", file, "--backend", "mpi")
    assert old.returncode == 1
    assert "install Open MPI 5 on every machine" in old.stderr
    mpirun.unlink()
    if shutil.which("mpirun") is None:
        without = cluster("check", "--hosts", file, "--backend", "mpi")
        assert without.returncode == 1
        assert "install Open MPI on every machine, or take --backend ring" in without.stderr
        assert "Traceback" not in without.stderr
