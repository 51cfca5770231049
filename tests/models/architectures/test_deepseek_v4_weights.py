"""DeepSeek V4 out of every checkpoint layout, through the ordinary loader."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from omlx.server.errors import CorruptModel
from omlx.server.models.architectures.deepseek_v4 import Model
from omlx.server.models.architectures.deepseek_v4.block_formats import dequantized
from omlx.server.models.loading import load_model

from .conftest import Case
from .deepseek_v4_model import TOLERANCE, build, distance, in_pieces
from .published_deepseek_v4 import (
    CONFIG,
    Tensors,
    decode_fp4,
    decode_fp8,
    encode_fp4,
    encode_fp8,
    parted_experts,
    published,
    published_config,
    write_checkpoint,
)
from .random_deepseek_v4 import random_tokens, random_weights

TOKENS = random_tokens(CONFIG, 24)


def _logits(model: Any) -> np.ndarray:
    return in_pieces(model, TOKENS, [20, 4])


def fused(numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Experts' numbers back in Hugging Face's fused arrays."""
    found: dict[str, np.ndarray] = {}
    experts: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for name, array in numbers.items():
        base, marker, rest = name.partition("mlp.experts.")
        if not marker:
            found[name] = array
            continue
        index, projection, _ = rest.split(".")
        experts.setdefault(base + marker, {}).setdefault(int(index), {})[projection] = array
    for base, by_index in experts.items():
        ordered = [by_index[index] for index in sorted(by_index)]
        found[f"{base}gate_up_proj"] = np.stack([np.concatenate([e["gate_proj"], e["up_proj"]]) for e in ordered])
        found[f"{base}down_proj"] = np.stack([expert["down_proj"] for expert in ordered])
    return found


@pytest.mark.parametrize("encode_expert", [encode_fp4, encode_fp8], ids=["fp4 experts", "fp8 experts"])
def test_the_published_layout_computes_with_the_numbers_it_stands_for(tmp_path: Path, encode_expert: Any) -> None:
    tensors, numbers = published(random_weights(CONFIG), encode_expert)
    write_checkpoint(tmp_path, published_config(CONFIG), tensors)
    before = {file.name: hashlib.sha256(file.read_bytes()).digest() for file in tmp_path.iterdir()}
    loaded = load_model(tmp_path)
    assert distance(_logits(loaded.model), _logits(build(CONFIG, fused(numbers)))) < TOLERANCE
    parameters = dict(tree_flatten(loaded.model.parameters()))
    experts = parameters["model.layers.1.ffn.switch_mlp.down_proj.weight"]
    assert experts.dtype == mx.uint32, "experts stay packed"
    assert {file.name: hashlib.sha256(file.read_bytes()).digest() for file in tmp_path.iterdir()} == before


def test_fp8_blocks_are_dequantized_one_by_one_and_cropped_at_the_edges() -> None:
    values = np.random.default_rng(3).normal(size=(130, 257)).astype(np.float32)
    values[128:] *= 1e-3
    values[:, 256:] *= 1e3
    codes, scales = encode_fp8(values)
    assert scales.shape == (2, 3)
    found = dequantized("w", mx.array(codes), mx.array(scales), (128, 128))
    assert np.array_equal(np.array(found.astype(mx.float32)), decode_fp8(codes, scales))
    assert distance(decode_fp8(codes, scales)[128:, :256], values[128:, :256]) < 0.07


def test_plain_float_scales_multiply_their_blocks() -> None:
    codes = np.random.default_rng(4).integers(0, 127, (130, 130)).astype(np.uint8)
    scales = np.array([[1.0, 3.0], [0.5, 2.0]], np.float32)
    found = dequantized("w", mx.array(codes), mx.array(scales), (128, 128)).astype(mx.float32)
    ones = decode_fp8(codes, np.full((2, 2), 127, np.uint8))
    expected = ones * np.repeat(np.repeat(scales, 128, 0), 128, 1)[:130, :130]
    assert np.allclose(np.array(found), expected, rtol=2**-8)


@pytest.mark.parametrize("dtype", [mx.uint8, mx.int8])
def test_fp4_is_read_two_to_a_byte(dtype: mx.Dtype) -> None:
    codes, scales = encode_fp4(np.random.default_rng(5).normal(size=(6, 96)).astype(np.float32))
    found = dequantized("w", mx.array(codes).view(dtype), mx.array(scales), (128, 128)).astype(mx.float32)
    assert np.array_equal(np.array(found), decode_fp4(codes, scales))


def test_huggingface_files_with_an_array_for_each_expert_load(full: Case) -> None:
    parted = parted_experts(random_weights(full.config))
    assert distance(in_pieces(build(full.config, parted), full.tokens[:40], [40]), full.logits[:40]) < TOLERANCE


def test_huggingface_files_in_fp8_load() -> None:
    numbers = random_weights(CONFIG)
    stored = dict(numbers)
    for name in [name for name in numbers if name.endswith(("q_b_proj.weight", "shared_experts.up_proj.weight"))]:
        codes, scales = encode_fp8(numbers[name])
        stored[name], numbers[name] = codes, decode_fp8(codes, scales)
        stored[f"{name}_scale_inv"] = (2.0 ** (scales.astype(np.float32) - 127)).astype(np.float32)
    assert distance(_logits(build(CONFIG, stored)), _logits(build(CONFIG, numbers))) < TOLERANCE


def test_huggingface_files_with_all_experts_of_a_layer_in_one_fp8_array_load() -> None:
    config = CONFIG | {"moe_intermediate_size": 128}
    numbers = random_weights(config)
    stored = dict(numbers)
    names = [name for name in numbers if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]
    assert names
    for name in names:
        encoded = [encode_fp8(expert) for expert in numbers[name]]
        numbers[name] = np.stack([decode_fp8(codes, scales) for codes, scales in encoded])
        stored[name] = np.stack([codes for codes, _ in encoded])
        scales = np.stack([scales for _, scales in encoded]).astype(np.float32)
        stored[f"{name}_scale_inv"] = (2.0 ** (scales - 127)).astype(np.float32)
    assert distance(_logits(build(config, stored)), _logits(build(config, numbers))) < TOLERANCE


_AFFINE_4, _AFFINE_8 = ({"group_size": 32, "bits": bits, "mode": "affine"} for bits in (4, 8))
_MXFP4 = {"group_size": 32, "bits": 4, "mode": "mxfp4"}


def _with_vision(name: str, array: Any) -> dict[str, Any]:
    """As converters with room for a vision tower wrote them: one matrix for all output groups."""
    whole = array.reshape(-1, array.shape[-1]) if ".wo_a." in name else array
    return {f"language_model.{name}": whole}


def _with_other_streams(name: str, array: Any) -> dict[str, Any]:
    """mlx-community/DeepSeek-V4-Flash: https://github.com/jundot/omlx/issues/2145"""
    return {re.sub(r"\b(attn|ffn)_hc\.", r"hc_\1.", name): array}


def _with_bare_names(name: str, array: Any) -> dict[str, Any]:
    """mlx-community/deepseek-ai-DeepSeek-V4-Flash-8bit: https://github.com/ml-explore/mlx-lm/pull/1192"""
    for pattern, replacement in (
        (r"^model\.embed_tokens", "embed"),
        (r"^lm_head", "head"),
        (r"^model\.hc_head\.", "hc_head_"),
        (r"\b(attn|ffn)_hc\.", r"hc_\1_"),
        (r"^model\.", ""),
        ("switch_mlp", "experts"),
        (r"(experts\.)gate_proj", r"\1w1"),
        (r"(experts\.)down_proj", r"\1w2"),
        (r"(experts\.)up_proj", r"\1w3"),
        ("e_score_correction_bias", "bias"),
    ):
        name = re.sub(pattern, replacement, name)
    if ".wo_a." not in name:
        return {name: array}
    return {name.replace(".wo_a.", f".wo_a.{group}."): part for group, part in enumerate(array)}


@pytest.mark.parametrize(
    ("experts", "rest"),
    [(_AFFINE_4, _AFFINE_4), (_AFFINE_8, _AFFINE_8), (_MXFP4, _MXFP4), (_MXFP4, _AFFINE_8)],
    ids=["4 bit", "8 bit", "mxfp4", "mxfp4 experts, 8 bit"],
)
@pytest.mark.parametrize(
    "written",
    [lambda name, array: {name: array}, _with_vision, _with_other_streams, _with_bare_names],
    ids=["plain", "vision", "other streams", "bare names"],
)
def test_mlx_conversions_load(
    tmp_path: Path, full: Case, experts: dict[str, Any], rest: dict[str, Any], written: Callable[..., dict[str, Any]]
) -> None:
    model = build(full.config)
    formats: dict[str, Any] = {}
    for path, module in model.named_modules():
        if hasattr(module, "to_quantized"):
            formats[path] = experts if ".switch_mlp." in path else rest
    nn.quantize(model, class_predicate=lambda path, _: formats.get(path, False))
    arrays: dict[str, Any] = {}
    for name, array in tree_flatten(model.parameters()):
        arrays |= written(name, array)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), arrays, {"format": "mlx"})
    (tmp_path / "config.json").write_text(json.dumps(full.config | {"quantization": rest}))
    loaded: Any = load_model(tmp_path).model
    expected = in_pieces(model, full.tokens[:12], [12])
    assert distance(in_pieces(loaded, full.tokens[:12], [12]), expected) < TOLERANCE


def _broken(change: str, tensors: Tensors) -> None:
    weight, scale = "layers.0.attn.wq_b.weight", "layers.0.attn.wq_b.scale"
    if change == "without scales":
        del tensors[scale]
    elif change == "neither as FP8":
        tensors[scale] = ("F8_E8M0", np.full((1, 1), 127, np.uint8))
    elif change == "neither FP8 nor packed FP4":
        tensors[weight] = ("F32", np.zeros((4, 4), np.float32))
    elif change.startswith("its scales"):
        del tensors["layers.1.ffn.experts.3.w1.scale"]
    elif change.startswith("7 experts"):
        for kind in ("weight", "scale"):
            del tensors[f"layers.1.ffn.experts.3.w1.{kind}"]
    elif change.startswith("1 output groups"):
        for kind in ("weight", "scale"):
            del tensors[f"layers.0.attn.wo_a.{kind}"]
        tensors["layers.0.attn.wo_a.0.weight"] = ("F32", np.zeros((48, 96), np.float32))
    elif change == "twice":
        tensors["model.layers.0.self_attn.kv_norm.weight"] = tensors["layers.0.attn.kv_norm.weight"]
    elif change == "rows for 2 groups":
        kind, array = tensors["layers.0.attn.wo_a.weight"]
        tensors["layers.0.attn.wo_a.weight"] = (kind, array[:90])
    elif change == "layers.0.attn.unheard_of":
        tensors["layers.0.attn.unheard_of"] = ("F32", np.zeros(3, np.float32))
    elif change == "layers.2.hc_ffn_fn":
        del tensors["layers.2.hc_ffn_fn"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("without scales", "layers.0.attn.wq_b.weight: packed bytes without their scales"),
        ("neither as FP8", "layers.0.attn.wq_b.weight: scales of shape"),
        ("neither FP8 nor packed FP4", "neither FP8 nor packed FP4"),
        ("7 experts", "7 experts in the checkpoint, 8 in the config"),
        ("its scales of one expert", "7 experts in the checkpoint, 8 in the config"),
        ("1 output groups", "wo_a.weight: 1 output groups in the checkpoint, 2 in the config"),
        ("twice", "twice, under different names"),
        ("rows for 2 groups", "90 rows for 2 groups of 48"),
        ("layers.0.attn.unheard_of", "unheard_of"),
        ("layers.2.hc_ffn_fn", "ffn_hc.fn"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_the_tensor_s_name(tmp_path: Path, change: str, named: str) -> None:
    tensors, _ = published(random_weights(CONFIG))
    _broken(change, tensors)
    write_checkpoint(tmp_path, published_config(CONFIG), tensors)
    with pytest.raises(CorruptModel, match=named):
        load_model(tmp_path)


def test_the_layers_of_mtp_are_left_out() -> None:
    weights = random_weights(CONFIG)
    extra = {
        "mtp.0.norm.weight": np.ones(4, np.float32),
        "model.layers.3.input_layernorm.weight": np.ones(4, np.float32),
    }
    assert isinstance(build(CONFIG, weights | extra), Model)
