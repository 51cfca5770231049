"""Whether there is an MTP layer is read from the tensors, never from what the config says alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mlx.utils import tree_flatten

from omlx.server.models.architectures import qwen3_5, qwen3_5_moe
from omlx.server.models.loading import load_model
from omlx.server.models.mtp import QWEN_MOE_PARTS, QWEN_PARTS, V4_PARTS, MtpReport, judge, mtp_report
from omlx.server.models.safetensors_file import SafetensorsWriter, TensorSpec

from ..cache.models import QWEN3_5
from .architectures.deepseek_v4_model import build
from .architectures.published_deepseek_v4 import CONFIG, published, published_config, write_checkpoint
from .architectures.random_deepseek_v4 import mtp_weights, random_weights
from .architectures.test_qwen3_5_mtp import MOE

V4 = sorted(name for name in published(random_weights(CONFIG) | mtp_weights(CONFIG))[0] if name.startswith("mtp."))
HUGGING_FACE = sorted(mtp_weights(CONFIG))
QWEN = [f"mtp.{part}" for part in QWEN_PARTS]
QWEN_MOE = [f"mtp.{part}" for part in QWEN_MOE_PARTS if "switch_mlp" not in part]
QWEN_MOE += ["mtp.layers.0.mlp.experts.gate_up_proj", "mtp.layers.0.mlp.experts.down_proj"]
LAYERS = {"V4": V4, "V4 of Hugging Face": HUGGING_FACE, "Qwen3.5": QWEN, "Qwen3.5 MoE": QWEN_MOE}
DSPARK = [
    *(f"mtp.{block}.attn.wq_a.weight" for block in range(3)),
    *("mtp.0.main_proj.weight", "mtp.2.norm.weight", "mtp.2.hc_head_fn"),
    *("mtp.2.markov_head.markov_w1.weight", "mtp.2.confidence_head.proj.weight"),
]


REASONS: list[tuple[dict[str, Any], list[str], str]] = [
    ({"num_nextn_predict_layers": 1}, [], "its config declares 1 MTP layers, but no tensor of one is there"),
    ({"num_nextn_predict_layers": 3}, DSPARK, "its mtp.* tensors are a DSpark drafter"),
]
"""Configs and tensors' names, and how what is said of them begins."""


def write_tensors(folder: Path, config: dict[str, Any], names: list[str]) -> None:
    """Give the folder this config, and weights with such names."""
    (folder / "config.json").write_text(json.dumps({"model_type": "any", "num_hidden_layers": 2, **config}))
    names = ["model.layers.1.norm.weight", *names]
    writer = SafetensorsWriter(folder / "model.safetensors", [TensorSpec(name, "F16", (4,)) for name in names], {})
    for name in names:
        writer.append(name, bytes(8))
    writer.close()


def _report(folder: Path, config: dict[str, Any], names: list[str]) -> MtpReport:
    write_tensors(folder, config, names)
    return mtp_report(folder)


@pytest.mark.parametrize("prefix", ["", "model.", "language_model."])
@pytest.mark.parametrize("names", LAYERS.values(), ids=LAYERS)
def test_a_whole_layer_is_compatible_whatever_the_config_says(tmp_path: Path, names: list[str], prefix: str) -> None:
    assert _report(tmp_path, {}, [prefix + name for name in names]) == MtpReport(True)


@pytest.mark.parametrize(
    "config",
    [{"num_nextn_predict_layers": 1}, {"text_config": {"num_hidden_layers": 2, "mtp_num_hidden_layers": 1}}],
)
def test_a_layer_that_is_declared_and_missing_is_told_with_the_remedy(tmp_path: Path, config: dict[str, Any]) -> None:
    report = _report(tmp_path, config, [])
    assert not report.mtp_compatible
    assert "declares 1 MTP layers, but no tensor of one is there" in report.reason
    assert "omlx convert --keep-mtp" in report.reason


def test_a_drafter_under_mtp_s_names_is_recognised(tmp_path: Path) -> None:
    report = _report(tmp_path, {"num_nextn_predict_layers": 3}, DSPARK)
    assert not report.mtp_compatible
    assert "DSpark drafter" in report.reason


def test_a_conversion_that_left_the_drafter_out_is_not_told_to_keep_an_mtp_layer(tmp_path: Path) -> None:
    report = _report(tmp_path, {"num_nextn_predict_layers": 3, "dspark_block_size": 5}, [])
    assert not report.mtp_compatible
    assert "what its config declares is a DSpark drafter" in report.reason
    assert "--keep-mtp" not in report.reason


@pytest.mark.parametrize(
    ("names", "missing"),
    [(names, each) for names in LAYERS.values() for each in names if not re.search(r"\.scale$|[01234567]\.w[12]", each)]
    + [(V4, "mtp.0.ffn.experts.7.w2.weight"), (V4, "mtp.0.ffn.experts.3.w1.weight")],
)
def test_a_layer_with_any_part_missing_is_not_compatible(names: list[str], missing: str) -> None:
    report = judge({"n_routed_experts": CONFIG["n_routed_experts"]}, [name for name in names if name != missing])
    assert not report.mtp_compatible, missing
    if missing not in ("mtp.0.e_proj.weight", "mtp.fc.weight"):  # by which the form is known
        assert "is not whole (" in report.reason
        assert " missing); download the model again" in report.reason


def test_what_is_missing_is_named() -> None:
    report = judge({}, [name for name in V4 if name != "mtp.0.attn.wkv.weight"])
    assert "(attn.wkv.weight missing)" in report.reason


def test_the_parts_are_the_module_s_parameters() -> None:
    model = build(CONFIG, random_weights(CONFIG) | mtp_weights(CONFIG))
    assert {f"mtp.0.{part}" for part in V4_PARTS} == _parameters(model)
    for config, kind, parts in ((QWEN3_5, qwen3_5, QWEN_PARTS), (MOE, qwen3_5_moe, QWEN_MOE_PARTS)):
        model = kind.Model(kind.ModelArgs.from_dict(config))
        model.mtp = qwen3_5.MtpLayer(model.language_model.args)
        assert {f"mtp.{part}" for part in parts} == _parameters(model)


def _parameters(model: Any) -> set[str]:
    return {name for name, _ in tree_flatten(model.parameters()) if name.startswith("mtp.")}


@pytest.mark.parametrize(
    "damaged", ["mtp.0.attn.wkv.weight", "mtp.0.hc_head_base", "mtp.0.ffn.experts.3.w1.weight", "mtp.0.attn.wkv.scale"]
)
def test_a_damaged_layer_does_not_keep_the_model_from_serving(
    tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    tensors, _ = published(random_weights(CONFIG) | mtp_weights(CONFIG))
    del tensors[damaged]
    write_checkpoint(tmp_path, published_config(CONFIG), tensors)
    assert load_model(tmp_path).mtp is None
    assert "The MTP layer is not used: " in caplog.text


def test_a_layer_behind_the_last_one_is_of_another_form(tmp_path: Path) -> None:
    report = _report(tmp_path, {"num_nextn_predict_layers": 1}, ["model.layers.2.eh_proj.weight"])
    assert "of a form that omlx does not run" in report.reason


def test_a_model_without_the_layer_says_so(tmp_path: Path) -> None:
    assert _report(tmp_path, {"num_nextn_predict_layers": 0}, []).reason.startswith("it has no MTP layer")


def test_a_folder_that_cannot_be_read_is_reported_with_its_reason(tmp_path: Path) -> None:
    report = mtp_report(tmp_path)
    assert not report.mtp_compatible
    assert "config.json" in report.reason
