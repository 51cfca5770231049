"""`omlx convert` of a repository of the hub, as a user types it: downloaded, packed, stopped and gone on with."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from omlx.server.commands import convert as convert_command
from omlx.server.errors import DownloadFailed, ModelNotFound
from omlx.server.models import hub_client
from omlx.server.models.converting import Conversion, convert
from omlx.server.models.hub import Hub, PullRequest, pull
from omlx.server.models.loading import load_model
from omlx.server.models.mtp import mtp_report

from ..models.architectures.deepseek_v4_model import build, distance, in_pieces
from ..models.architectures.published_deepseek_v4 import published, published_config, write_checkpoint
from ..models.architectures.random_deepseek_v4 import mtp_weights, random_weights
from ..models.architectures.test_deepseek_v4_weights import fused
from ..models.fake_hub import FakeHub, running_hub
from ..models.test_converting import CONFIG, TOKENS, plain_weights
from .conftest import Run


def _checkpoint(folder: Path, config: dict[str, Any]) -> Any:
    """The published layout, FP8 and FP4, with an MTP layer; the numbers that it stands for."""
    folder.mkdir()
    tensors, numbers = published(random_weights(config) | mtp_weights(config))
    write_checkpoint(folder, published_config(config), tensors)
    (folder / "tokenizer.json").write_text("{}")
    return numbers


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    assert not home.exists()
    _checkpoint(tmp_path / "original", CONFIG)
    with running_hub() as fake:
        fake.files = {file.name: file.read_bytes() for file in (tmp_path / "original").iterdir()}
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        yield fake


def test_a_repository_becomes_a_model_with_its_mtp_layer(hub: FakeHub, run: Run, home: Path) -> None:
    told = json.loads(run("convert", "org/model", "--bits", "8", "--keep-mtp", "--json").stdout)
    folder = Path(told["path"])
    assert folder == home / "models" / "org" / "model-8bit"
    assert told["has_mtp"]
    assert mtp_report(folder).mtp_compatible
    assert (folder / "tokenizer.json").read_text() == "{}"
    _, numbers = published(random_weights(CONFIG) | mtp_weights(CONFIG))
    loaded: Any = load_model(folder).model
    assert distance(in_pieces(loaded, TOKENS, [100, 40]), in_pieces(build(CONFIG, fused(numbers)), TOKENS, [140])) < 0.1
    experts = [numbers[f"model.layers.1.mlp.experts.{index}.down_proj.weight"] for index in range(8)]
    packed = loaded.model.layers[1].ffn.switch_mlp.down_proj
    assert np.array_equal(plain_weights(packed), np.stack(experts))  # FP4 stays FP4
    assert len(hub.downloaded) == len([name for name in hub.files if name.endswith(".safetensors")])


def test_a_download_that_broke_off_is_gone_on_with(
    hub: FakeHub, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [name for name in hub.files if name.endswith(".safetensors")]
    hub.cuts = [5000] * len(shards) + [0] * 20
    monkeypatch.setattr(hub_client, "_ATTEMPTS", 1)
    with pytest.raises(DownloadFailed):
        run("convert", "org/model")
    assert not (home / "models" / "org" / "model-4bit").exists()
    hub.cuts, before = [], len(hub.requests)
    assert run("convert", "org/model").exit_code == 0
    resumed = {path: wanted for side, _, path, wanted, _ in hub.requests[before:] if side == "storage"}
    assert "bytes=5000-" in resumed.values()


def test_a_conversion_that_was_stopped_is_gone_on_with_and_nothing_is_downloaded_again(
    hub: FakeHub, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(convert_command.Bar):
        def __call__(self, share: float, text: str) -> None:
            super().__call__(share, text)
            if "model-4bit" in text:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(convert_command, "Bar", Impatient)
        stopped = run("convert", "org/model")
    assert (stopped.exit_code, "the same command goes on from it" in stopped.stderr) == (130, True)
    target = home / "models" / "org" / "model-4bit"
    assert not target.exists()
    (shard,) = (target.parent / ".model-4bit.converting").glob("model-*.safetensors")
    written = shard.stat().st_mtime_ns
    downloaded = list(hub.downloaded)
    assert run("convert", "org/model").exit_code == 0
    assert (target / shard.name).stat().st_mtime_ns == written
    assert hub.downloaded == downloaded


def test_memory_does_not_grow_with_the_number_of_layers(tmp_path: Path) -> None:
    """Of what is pulled and packed a shard is held, and a layer's experts that one is made of."""
    peaks, sizes = [], []
    for times in (1, 4):
        layers = CONFIG["num_hidden_layers"] * times
        kinds = {key: CONFIG[key][1:] * layers for key in ("layer_types", "mlp_layer_types")}
        kinds["mlp_layer_types"] = ["hash_moe"] + ["moe"] * (layers - 1)
        _checkpoint(tmp_path / f"original{times}", CONFIG | {"num_hidden_layers": layers} | kinds)
        with running_hub() as fake:
            fake.files = {file.name: file.read_bytes() for file in (tmp_path / f"original{times}").iterdir()}
            source = pull(PullRequest("org/model"), tmp_path / f"models{times}", Hub(fake.url)).path
        gc.collect()  # or what others left would seem to be given back by this
        mx.clear_cache()
        held = mx.get_active_memory()
        mx.reset_peak_memory()
        converted = convert(Conversion(source, tmp_path / f"packed{times}", keep_mtp=True, shard_bytes=1 << 17))
        peaks.append(mx.get_peak_memory() - held)
        sizes.append(converted.size_bytes)
    assert sizes[1] > 2.5 * sizes[0]
    assert peaks[1] < 1.2 * peaks[0]


def test_what_is_no_model_and_no_repository_is_told_with_the_models_there_are(run: Run, home: Path) -> None:
    (home / "models" / "mine").mkdir(parents=True)
    (home / "models" / "mine" / "config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match=r"'nope' not found. Available models: mine"):
        run("convert", "nope")


def test_why_no_mtp_layer_could_be_kept_is_told(tmp_path: Path, run: Run) -> None:
    _checkpoint(tmp_path / "0731", CONFIG)
    header = json.dumps({"mtp.2.markov_head.w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    drafter = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "0731" / "model-00003-of-00003.safetensors").write_bytes(drafter)
    told = run("convert", str(tmp_path / "0731"), "--keep-mtp").stdout
    assert "No MTP layer was kept: its mtp.* tensors are a DSpark drafter" in told


def test_where_there_is_only_a_cpu_it_says_what_packed_weights_cost(
    hub: FakeHub, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.files
    monkeypatch.setattr("omlx.server.models.quantizing.has_only_a_cpu", lambda: True)
    assert "packed weights read a prompt 30 times as slowly" in run("convert", "org/model").stderr
    monkeypatch.setattr("omlx.server.models.quantizing.has_only_a_cpu", lambda: False)
    assert "only a CPU" not in run("convert", "org/model", "--out", str(home / "other")).stderr
