"""Whether there is an MTP layer is read from the tensors, never from what the config says alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omlx.server.models.mtp import MtpReport, mtp_report
from omlx.server.models.safetensors_file import SafetensorsWriter, TensorSpec

V4 = [
    *(f"mtp.0.{name}.weight" for name in ("e_proj", "h_proj", "enorm", "hnorm", "norm", "attn.wq_a", "ffn.gate")),
    *("mtp.0.hc_head_fn", "mtp.0.ffn.experts.0.w1.weight"),
]
QWEN = [
    *(f"mtp.{name}.weight" for name in ("fc", "norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")),
    *("mtp.layers.0.self_attn.q_proj.weight", "mtp.layers.0.mlp.gate_proj.weight"),
]
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
@pytest.mark.parametrize("names", [V4, QWEN], ids=["V4", "Qwen3.5"])
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


@pytest.mark.parametrize("missing", range(1, len(V4)))
def test_a_layer_with_a_part_missing_is_not_compatible(tmp_path: Path, missing: int) -> None:
    report = _report(tmp_path, {}, [name for index, name in enumerate(V4) if index != missing])
    assert not report.mtp_compatible
    assert "not whole" in report.reason


def test_a_layer_behind_the_last_one_is_of_another_form(tmp_path: Path) -> None:
    report = _report(tmp_path, {"num_nextn_predict_layers": 1}, ["model.layers.2.eh_proj.weight"])
    assert "of a form that omlx does not run" in report.reason


def test_a_model_without_the_layer_says_so(tmp_path: Path) -> None:
    assert _report(tmp_path, {"num_nextn_predict_layers": 0}, []).reason.startswith("it has no MTP layer")


def test_a_folder_that_cannot_be_read_is_reported_with_its_reason(tmp_path: Path) -> None:
    report = mtp_report(tmp_path)
    assert not report.mtp_compatible
    assert "config.json" in report.reason
