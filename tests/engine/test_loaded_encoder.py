"""An encoder in its process holds on to no more freed memory than a model that writes."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from omlx.server.engine.loaded_encoder import LoadedEncoder
from omlx.server.models.catalog import ModelKind
from omlx.server.models.device_memory import device_memory, plan

from ..models.encoders.random_encoders import CONFIGS, build


def test_mlx_is_bounded_when_an_encoder_is_loaded_and_cleared_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    limits, clearings = list[int](), list[None]()
    monkeypatch.setattr(mx, "set_cache_limit", limits.append)
    monkeypatch.setattr(mx, "clear_cache", lambda: clearings.append(None))
    encoder = LoadedEncoder(build(tmp_path / "bert", CONFIGS["bert"]), ModelKind.EMBEDDING)

    total = device_memory(has_own_gpu=mx.cuda.is_available()).total
    assert limits == [plan(total, encoder.info.weight_bytes).buffers]
    encoder.rest()
    assert len(clearings) == 1
