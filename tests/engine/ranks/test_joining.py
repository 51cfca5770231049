"""Ranks that do not run the same refuse to start, and say what differs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from omlx.server.engine.blas import engine_environment
from omlx.server.engine.ranks.joining import agree
from omlx.server.errors import EngineUnavailable

from .models import write_llama
from .test_group import ring

FACTS = {"omlx": "1", "mlx": "0.32.0", "the model": "abc", "the split": "auto", "max_num_seqs": "16"}


class _Ranks:
    """A group as rank 0 sees it, whose others answer with these facts."""

    def __init__(self, others: Mapping[str, str]) -> None:
        self._others = msgspec.msgpack.encode(dict(others))

    def gather_bytes(self, payload: bytes) -> list[bytes]:
        return [payload, self._others]


def _agree(others: Mapping[str, str]) -> None:
    ranks: Any = _Ranks(others)
    agree(ranks, FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_whatever_differs_is_named_with_both_values(name: str) -> None:
    _agree(FACTS)
    with pytest.raises(EngineUnavailable) as refusal:
        _agree(FACTS | {name: "another"})
    assert str(refusal.value) == f"rank 1 has {name} 'another', rank 0 has {FACTS[name]!r}; make them the same"


def test_real_ranks_with_other_settings_or_another_model_end_and_say_so(tmp_path: Path) -> None:
    models = [write_llama(tmp_path / f"model{rank}") for rank in (0, 1)]
    command = [sys.executable, "-m", "omlx.server.engine", "--split=auto"]
    environment = engine_environment(os.environ)
    for differing, name in ((["--max-num-seqs=3", "--max-num-seqs=4"], "max_num_seqs"), ([], "the model")):
        if not differing:
            config = models[1] / "config.json"
            config.write_text(config.read_text().replace("10000.0", "20000.0"))
        environment["MLX_HOSTFILE"] = str(ring(tmp_path, 2))
        ranks = [
            subprocess.Popen(
                [*command, *differing[rank : rank + 1], "--model", str(model)],
                env={**environment, "MLX_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, model in enumerate(models)
        ]
        try:
            told = [rank.communicate(timeout=60)[1] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
        assert f"rank 1 has {name} " in told[1], told
        assert [rank.returncode for rank in ranks] == [1, 1]
