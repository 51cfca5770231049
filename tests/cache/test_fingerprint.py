"""Whatever changes cached values changes the name they are kept under, and nothing else does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from omlx.server.cache.fingerprint import model_fingerprint
from omlx.server.cache.tensor_file import Tensor, pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"rope_theta": 10000, "hidden_size": 8}')
    data = bytes(range(256)) * 400
    (tmp_path / "model.safetensors").write_bytes(pack({"w": Tensor("U8", (len(data),), data)}, {}))
    return tmp_path


def test_the_same_model_keeps_its_name_whenever_it_was_written(folder: Path):
    before = model_fingerprint(folder, "mlx 1")
    os.utime(folder / "model.safetensors", (1, 1))
    (folder / "config.json").write_text(json.dumps({"hidden_size": 8, "rope_theta": 10000}, indent=2))
    (folder / "README.md").write_text("about")
    assert model_fingerprint(folder, "mlx 1") == before


def test_config_weights_and_surroundings_each_change_the_name(folder: Path):
    names = {model_fingerprint(folder, "mlx 1"), model_fingerprint(folder, "mlx 2")}
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[:-50_000] + bytes(50_000))
    names.add(model_fingerprint(folder, "mlx 1"))
    (folder / "model.safetensors").write_bytes(raw.replace(b'"w"', b'"v"'))
    names.add(model_fingerprint(folder, "mlx 1"))
    (folder / "config.json").write_text('{"rope_theta": 20000, "hidden_size": 8}')
    names.add(model_fingerprint(folder, "mlx 1"))
    (folder / "adapters.safetensors").write_bytes(raw)
    names.add(model_fingerprint(folder, "mlx 1"))
    assert len(names) == 6
