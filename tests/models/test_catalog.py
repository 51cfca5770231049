"""Discovery: which folders are models, what is known of them, and that a bad one harms no other."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omlx.server.models.catalog import ModelKind, discover
from omlx.server.models.device_memory import DeviceMemory
from omlx.server.models.safetensors_file import SafetensorsWriter, TensorSpec

CONFIG = {"model_type": "llama", "max_position_embeddings": 4096}


def make_model(folder: Path, config: dict[str, Any] | str = CONFIG, files: tuple[str, ...] = ("model",)) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name in files:
        writer = SafetensorsWriter(folder / f"{name}.safetensors", [TensorSpec("w", "F16", (4, 8))], {})
        writer.append("w", bytes(64))
        writer.close()
    return folder


def test_models_lie_one_or_two_levels_down(tmp_path: Path) -> None:
    make_model(tmp_path / "beta")
    make_model(tmp_path / "org" / "alpha")
    make_model(tmp_path / "org" / "deep" / "too-deep")
    make_model(tmp_path / ".beta.1234.importing")
    (tmp_path / "notes.txt").touch()
    assert [entry.id for entry in discover([tmp_path])] == ["beta", "org/alpha"]


def test_a_folder_that_is_itself_a_model_is_found(tmp_path: Path) -> None:
    make_model(tmp_path / "solo")
    (entry,) = discover([tmp_path / "solo"])
    assert (entry.id, entry.path) == ("solo", tmp_path / "solo")


def test_an_entry_says_what_the_files_say(tmp_path: Path) -> None:
    config = {
        "model_type": "qwen3_5",
        "text_config": {"max_position_embeddings": 262144},
        "quantization": {"bits": 4, "group_size": 64},
    }
    make_model(tmp_path / "m", config, files=("model-00001-of-00002", "model-00002-of-00002"))
    (entry,) = discover([tmp_path])
    assert (entry.architecture, entry.context_window, entry.size_bytes) == ("qwen3_5", 262144, 128)
    assert entry.quantization == "4bit"
    assert entry.kind is ModelKind.LLM


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, ModelKind.LLM),
        ({"architectures": ["BertModel"]}, ModelKind.EMBEDDING),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, ModelKind.RERANKER),
        ({"architectures": ["Qwen3VLForConditionalGeneration"], "vision_config": {}}, ModelKind.VLM),
        ({"architectures": ["WhisperForConditionalGeneration"]}, ModelKind.AUDIO),
    ],
)
def test_kinds_are_told_apart(tmp_path: Path, config: dict[str, Any], kind: ModelKind) -> None:
    make_model(tmp_path / "m", CONFIG | config)
    (entry,) = discover([tmp_path])
    assert entry.kind is kind


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "a list where an object belongs"),
        ("{}", "config.json"),
        ('{"model_type": 7}', "no model_type"),
        ("[" * 100_000, "not valid JSON"),
        ("\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), "not valid JSON"),
        (json.dumps(CONFIG | {"model_file": "evil.py"}), "wants its own code run"),
        (json.dumps(CONFIG | {"num_hidden_layers": 10**9}), "num_hidden_layers is 1000000000"),
        (
            json.dumps(CONFIG | {"text_config": {"num_nextn_predict_layers": 10_001}}),
            "num_nextn_predict_layers is 10001",
        ),
    ],
)
def test_a_bad_config_is_skipped_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, config: str, words: str
) -> None:
    make_model(tmp_path / "bad", config)
    make_model(tmp_path / "good")
    with caplog.at_level(logging.WARNING):
        assert [entry.id for entry in discover([tmp_path])] == ["good"]
    assert words in caplog.text
    assert "'bad'" in caplog.text


@pytest.mark.parametrize("key", ["max_position_embeddings", "num_attention_heads", "hidden_size", "head_dim"])
def test_a_number_that_no_word_holds_harms_nobody(tmp_path: Path, key: str) -> None:
    make_model(tmp_path / "bad", CONFIG | {"num_hidden_layers": 2, "hidden_size": 8, key: 10**400})
    make_model(tmp_path / "good")
    bad, good = discover([tmp_path])
    assert (bad.id, good.id) == ("bad", "good")
    assert bad.context_window < 1 << 31
    assert bad.within(DeviceMemory(1 << 34, 0)).needed_bytes > 0


def test_bad_weights_are_skipped_with_their_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_model(tmp_path / "empty", files=())
    truncated = make_model(tmp_path / "truncated") / "model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:-1])
    partial = make_model(tmp_path / "partial", files=("model-00001-of-00003",))
    shards = {f"w{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    (partial / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    pipe = make_model(tmp_path / "pipe", files=()) / "model.safetensors"
    os.mkfifo(pipe)
    with caplog.at_level(logging.WARNING):
        assert discover([tmp_path]) == ()
    assert f"{pipe}: is a pipe" in caplog.text
    assert "no model*.safetensors" in caplog.text
    assert "take 64 bytes, the file holds 63" in caplog.text
    assert "2 weight files are missing, model-00002-of-00003.safetensors first" in caplog.text


def test_the_first_of_two_models_with_one_name_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_model(tmp_path / "one" / "m")
    make_model(tmp_path / "two" / "m")
    with caplog.at_level(logging.WARNING):
        (entry,) = discover([tmp_path / "one", tmp_path / "two"])
    assert entry.path == tmp_path / "one" / "m"
    assert "is taken by" in caplog.text


def test_a_link_to_itself_hides_no_model(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert [entry.id for entry in discover([tmp_path])] == ["m"]


def test_a_missing_folder_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert discover([tmp_path / "absent"]) == ()
    assert "does not exist any more" in caplog.text


def test_a_name_from_the_disk_cannot_break_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_model(tmp_path / "bad\nINFO forged")
    assert discover([tmp_path]) == ()
    assert "'bad\\nINFO forged'" in caplog.text
    assert "bad\n" not in caplog.text


def test_mlx_is_not_imported() -> None:
    rooms = "catalog, capabilities, embedded, folder, safetensors_file"
    code = f"import sys; from omlx.server.models import {rooms}; print([m for m in sys.modules if m.startswith('mlx')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_window_is_what_the_model_declares_or_what_the_memory_holds(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 1024}
    make_model(tmp_path / "m", {**CONFIG, **sizes})
    (entry,) = discover([tmp_path])
    assert entry.footprint is not None
    roomy = DeviceMemory(1 << 40, 1 << 40)
    assert (entry.within(roomy).context_window, entry.within(roomy).declared_window) == (4096, None)
    half = entry.footprint.total_bytes(2048)
    cut = entry.within(DeviceMemory(1 << 40, half))
    assert (cut.context_window, cut.declared_window) == (2048, 4096)
    assert entry.within(DeviceMemory(half, 0)).context_window == 2048
    assert entry.within(DeviceMemory(0, 0)) == entry
