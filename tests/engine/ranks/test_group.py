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

from .models import write_deepseek_v4, write_deepseek_v4_with_mtp, write_llama, write_mixture

_SECONDS = 180
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


def run_group(folder: Path, model: Path, split: str, size: int) -> dict[str, Any]:
    """What rank 0 prints."""
    environment = {**engine_environment(os.environ), "MLX_HOSTFILE": str(ring(folder, size))}
    command = [sys.executable, "-m", "tests.engine.ranks.rank_child", str(model), str(folder / "cache"), split]
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
        assert (cached["greedy 700"] > 0) is (when != "cold"), when
    assert (told["drafts"].get("mtp", [0, 0])[1] > 0) is ("MTP" in kind)
    assert {folder.name for folder in (tmp_path / "cache").iterdir()} == {"rank0of2", "rank1of2"}
