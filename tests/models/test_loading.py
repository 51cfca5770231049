"""Loading: MLX gets checked files, and no code of the folder's runs."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import mlx.core as mx
import pytest

from omlx.server.errors import CorruptModel, UnsupportedModel
from omlx.server.models import loading
from omlx.server.models.importing import ImportType, import_gguf
from omlx.server.models.loading import load_model

from .small_gguf import SmallLlama


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SmallLlama().write(tmp_path / "small.gguf")
    return import_gguf(tmp_path / "small.gguf", models_folder=tmp_path / "models", dtype=ImportType.FLOAT32)


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_model_is_loaded_as_it_is_stored(folder: Path) -> None:
    loaded = load_model(folder)
    header = 8 + struct.unpack("<Q", (folder / "model.safetensors").read_bytes()[:8])[0]
    assert loaded.weight_bytes == (folder / "model.safetensors").stat().st_size - header
    assert loaded.model(mx.array([[3, 4]])).dtype == mx.float32


def test_every_piece_of_the_weights_that_was_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[None] = []
    monkeypatch.setattr(loading, "_PIECE_BYTES", load_model(folder).weight_bytes // 4)
    load_model(folder, go_on=lambda: told.append(None))
    assert 2 <= len(told) <= 5


def test_code_in_the_folder_never_runs(folder: Path, tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'marker')!r}, 'w').close()\nModel = ModelArgs = None\n"
    for name in ("evil.py", "llama.py", "__init__.py", "modeling_evil.py"):
        (folder / name).write_text(code)
    change_config(folder, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    load_model(folder)
    change_config(folder, model_file="evil.py")
    with pytest.raises(UnsupportedModel, match="code"):
        load_model(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("model_type", ["no_such_family", "../llama", "os.path", "llama.x", "", "lla\nma"])
def test_an_unknown_architecture_is_named(folder: Path, model_type: str) -> None:
    change_config(folder, model_type=model_type)
    with pytest.raises((UnsupportedModel, CorruptModel), match=r"(?i)model.type"):
        load_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 128},
        {"hidden_size": "64"},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 300},
        {"num_hidden_layers": 1},
        {"rms_norm_eps": None},
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_corrupt(folder: Path, change: dict[str, object]) -> None:
    change_config(folder, **change)
    if change == {"rms_norm_eps": None}:
        config = json.loads((folder / "config.json").read_text())
        del config["rms_norm_eps"]
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptModel, match="download it again") as refused:
        load_model(folder)
    assert len(str(refused.value)) < 1000


def test_a_truncated_file_is_refused_before_mlx_reads_it(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CorruptModel, match="download it again"):
        load_model(folder)


def test_a_model_file_that_would_end_the_process_is_unsupported(folder: Path) -> None:
    change_config(folder, model_type="olmo")  # mlx-lm 0.32.2's calls quit() where ai2-olmo is not installed
    with pytest.raises(UnsupportedModel, match="needs a package"):
        load_model(folder)
