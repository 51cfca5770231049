"""Whatever changes cached values changes the name they are kept under, and nothing else does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from omlx.server.cache.fingerprint import model_fingerprint
from omlx.server.cache.tensor_file import Tensor, pack

SIZES = {"q_proj": 6000, "k_proj": 500, "v_proj": 1, "mlp": 40_000}


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


def test_every_tensor_s_values_are_in_the_name(tmp_path: Path):
    sizes = {f"layers.{index}.{kind}": size for index in range(20) for kind, size in SIZES.items()}
    file, names = tmp_path / "model.safetensors", set[str]()
    for changed in ["none of them", *sizes]:
        content = {name: Tensor("U8", (size,), bytes([name == changed]) * size) for name, size in sizes.items()}
        file.write_bytes(pack(content, {}))
        names.add(model_fingerprint(tmp_path))
    assert len(names) == len(sizes) + 1


def test_a_large_tensor_gives_a_page_for_each_of_its_stretches(tmp_path: Path):
    size, file, names = 1 << 28, tmp_path / "model.safetensors", set[str]()
    header = json.dumps({"experts": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with file.open("wb") as opened:
        opened.write(len(header).to_bytes(8, "little") + header)
        opened.truncate(8 + len(header) + size)
        for expert in range(4):
            names.add(model_fingerprint(tmp_path))
            opened.seek(8 + len(header) + size * expert // 4 + (size >> 4))
            opened.write(b"\1" * (size >> 3))
            opened.flush()
    assert len(names) == 4


@pytest.mark.parametrize(
    "header", [b"", b"not JSON", b'{"w": {}}', b'{"w": {"data_offsets": [-9, 5]}}', b"\xff" * 9, b"[" * 99_999]
)
def test_a_file_with_a_broken_header_has_a_name_too(tmp_path: Path, header: bytes):
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert len(model_fingerprint(tmp_path)) == 32
