"""Real ranks on this machine over MLX's ring: what a group answers is what one process answers, to the token."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from omlx.server.engine.blas import engine_environment
from omlx.server.engine.ranks.control import SILENCE_SECONDS
from omlx.server.models.hub import Hub, pull_headers

from ...models.fake_hub import running_hub
from .models import (
    shard_by_layers,
    shard_name,
    write_deepseek_v4,
    write_deepseek_v4_with_mtp,
    write_llama,
    write_mixture,
)

LONG = "greedy 700"
"""The request whose prompt has whole blocks."""
_SECONDS = 600
_ROOT = Path(__file__).parents[3]
CASES: list[tuple[str, Callable[[Path], Path], str]] = [
    ("plain", write_llama, "tensor"),
    ("mixture of experts", write_mixture, "tensor"),
    ("mixture of experts", write_mixture, "pipeline"),
    ("DeepSeek V4", write_deepseek_v4, "tensor"),
    ("DeepSeek V4 with MTP", write_deepseek_v4_with_mtp, "tensor"),
]


def ring(folder: Path, size: int) -> Path:
    """A hostfile for MLX's ring back end, with ports that are free now."""
    with ExitStack() as stack:
        ports = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(size)]
    hostfile = folder / "ring.json"
    hostfile.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in ports]))
    return hostfile


def run_group(
    folder: Path, model: Path, split: str, size: int, *, parts: str = "", hub_url: str = "", loses: bool = False
) -> dict[str, Any]:
    """What rank 0 prints. `parts` names each rank's folder, with `{rank}` in it, where that is not the model's; with
    `loses`, rank 1 has lost half of its blocks on disk after the restart."""
    environment = {**engine_environment(os.environ), "MLX_HOSTFILE": str(ring(folder, size)), "HF_ENDPOINT": hub_url}
    child = [sys.executable, "-m", "tests.engine.ranks.rank_child"]
    command = [*child, parts or str(model), str(folder / "cache"), split, str(model)]
    command += ["lose"] if loses else []
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=_ROOT,
                    env={**environment, "MLX_RANK": str(rank)},
                    stdout=subprocess.PIPE,
                    stderr=stack.enter_context((folder / f"rank{rank}.log").open("wb")),
                )
            )
            for rank in range(size)
        ]
        try:
            printed = [rank.communicate(timeout=_SECONDS)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
    logs = [(folder / f"rank{rank}.log").read_text()[-2000:] for rank in range(size)]
    assert [rank.returncode for rank in ranks] == [0] * size, logs
    return json.loads(printed[0])


@pytest.mark.parametrize(("kind", "write", "split"), CASES, ids=[f"{kind}, {split}" for kind, _, split in CASES])
def test_two_ranks_answer_as_one_does(tmp_path: Path, kind: str, write: Callable[[Path], Path], split: str):
    told = run_group(tmp_path, write(tmp_path / "model"), split, 2)
    alone, _ = told["answers"]["alone"]
    for when in ("cold", "warm", "again", "restarted"):
        tokens, cached = told["answers"][when]
        assert tokens == alone, f"{kind}, {when}"
        assert (cached[LONG] > 0) is (when != "cold"), when
    assert (told["drafts"].get("mtp", [0, 0])[1] > 0) is ("MTP" in kind)
    assert told["pieces"] > 0  # of prefixes that were read from the disk
    assert {entry.name for entry in (tmp_path / "cache").iterdir() if entry.is_dir()} == {"rank0of2", "rank1of2"}


@pytest.mark.parametrize("write", [write_llama, write_deepseek_v4])
def test_a_block_that_one_rank_has_lost_is_a_miss_for_both(tmp_path: Path, write: Callable[[Path], Path]):
    model, cached = write(tmp_path / "model"), {}
    for loses in (False, True):
        folder = tmp_path / f"loses {loses}"
        folder.mkdir()
        told = run_group(folder, model, "tensor", 2, loses=loses)["answers"]
        tokens, cached[loses] = told["restarted"]
        assert tokens == told["alone"][0]
    assert sum(cached[True].values()) < sum(cached[False].values())


def test_ranks_of_a_pipeline_download_the_shards_of_their_own_layers_only(tmp_path: Path):
    whole = shard_by_layers(write_mixture(tmp_path / "model"))
    with running_hub() as hub:
        hub.files = {file.name: file.read_bytes() for file in whole.iterdir()}
        hub.slow = {shard_name(1): SILENCE_SECONDS + 1}  # rank 0 waits meanwhile, and both are alive
        for rank in range(2):
            pull_headers("org/model", tmp_path / f"part{rank}", Hub(hub.url))
        told = run_group(tmp_path, whole, "pipeline", 2, parts=str(tmp_path / "part{rank}"), hub_url=hub.url)
    assert told["answers"]["cold"][0] == told["answers"]["restarted"][0] == told["answers"]["alone"][0]
    # Rank 0 has the last layers. What all ranks have stands in a file of its own.
    wanted = sorted(shard_name(number) for number in (0, 0, 1, 2, 3, 4))
    assert sorted(hub.downloaded) == wanted
    sizes = [sum(file.stat().st_size for file in (tmp_path / f"part{rank}").glob("*.safetensors")) for rank in (0, 1)]
    assert max(sizes) < 0.7 * sum(file.stat().st_size for file in whole.glob("*.safetensors"))
