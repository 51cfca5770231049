"""Checkpoints as DeepSeek publishes them: bare names, FP8 in blocks of 128 by 128, FP4 experts.

Encoding and decoding are spelled out here in numpy, from the definitions of the formats, so that what the
server makes of a checkpoint is compared with something that shares nothing with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omlx.server.models.safetensors_file import SafetensorsWriter, TensorSpec

from .random_deepseek_v4 import CONFIGS, Weights

# Sizes that leave cut-off blocks at every edge: 160 = 128 + 32 and so on.
CONFIG: dict[str, Any] = CONFIGS["full"] | {
    "hidden_size": 160,
    "moe_intermediate_size": 64,
    "q_lora_rank": 96,
    "head_dim": 48,
    "partial_rotary_factor": 1 / 3,
    "o_lora_rank": 48,
    "num_hidden_layers": 3,
}
_RATIOS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
_BLOCK, _GROUP = 128, 32
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_NAMES = [
    (r"^model\.embed_tokens", "embed"),
    (r"^model\.", ""),
    (r"^lm_head", "head"),
    (r"^hc_head\.hc_", "hc_head_"),
    (r"\.input_layernorm\.", ".attn_norm."),
    (r"\.post_attention_layernorm\.", ".ffn_norm."),
    (r"\.(attn|ffn)_hc\.", r".hc_\1_"),
    (r"compressor\.indexer\.scorer\.weights_proj", "indexer.weights_proj"),
    (r"compressor\.indexer\.q_b_proj", "indexer.wq_b"),
    (r"compressor\.indexer\.", "indexer.compressor."),
    (r"compressor\.kv_norm", "compressor.norm"),
    (r"position_bias$", "ape"),
    (r"self_attn\.q_a_norm", "self_attn.q_norm"),
    (r"self_attn\.sinks", "self_attn.attn_sink"),
    (r"mlp\.(.*)gate_proj", r"mlp.\1w1"),
    (r"mlp\.(.*)down_proj", r"mlp.\1w2"),
    (r"mlp\.(.*)up_proj", r"mlp.\1w3"),
    (r"\.(q_a|q_b|kv|gate|o_a|o_b)_proj\.", r".w\1."),
    (r"e_score_correction_bias", "bias"),
    (r"\.self_attn\.", ".attn."),
    (r"\.mlp\.", ".ffn."),
]


def published_name(name: str) -> str:
    """Hugging Face's name as the published checkpoint has it."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def parted_experts(weights: Weights) -> Weights:
    """One array for each expert's projection, as the checkpoint has them."""
    found: Weights = {}
    for name, array in weights.items():
        if name.endswith("experts.gate_up_proj"):
            for index, both in enumerate(array):
                gate, up = np.split(both, 2)
                base = name.removesuffix("gate_up_proj")
                found[f"{base}{index}.gate_proj.weight"], found[f"{base}{index}.up_proj.weight"] = gate, up
        elif name.endswith("experts.down_proj"):
            found |= {f"{name.removesuffix('down_proj')}{i}.down_proj.weight": part for i, part in enumerate(array)}
        else:
            found[name] = array
    return found


def is_fp8(name: str) -> bool:
    return bool(re.search(r"(attn\.(w[qo]_[ab]|wkv|indexer\.wq_b)|shared_experts\.w\d|[eh]_proj)\.weight$", name))


def is_expert(name: str) -> bool:
    return bool(re.search(r"ffn\.experts\.\d+\.w\d\.weight$", name))


def encode_fp8(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of e4m3 and E8M0 scales, one for each block of 128 by 128, the last ones cut off."""
    rows, columns = (-(-size // _BLOCK) for size in values.shape)
    codes, scales = np.zeros(values.shape, np.uint8), np.zeros((rows, columns), np.uint8)
    for row in range(rows):
        for column in range(columns):
            place = (slice(row * _BLOCK, (row + 1) * _BLOCK), slice(column * _BLOCK, (column + 1) * _BLOCK))
            exponent = int(np.ceil(np.log2(np.abs(values[place]).max() / 448)))
            codes[place] = _nearest(values[place] / 2.0**exponent, e4m3_values()[:127])
            scales[row, column] = exponent + 127
    return codes, scales


def decode_fp8(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(size) // _BLOCK for size in codes.shape)
    return e4m3_values()[codes] * 2.0 ** (scales[rows[:, None], columns].astype(np.float32) - 127)


def encode_fp4(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two e2m1 values in a byte, the first in the low half, and an E8M0 scale for 32 of a row."""
    groups = values.reshape(len(values), -1, _GROUP)
    exponents = np.ceil(np.log2(np.abs(groups).max(axis=-1) / 6)).astype(np.int32)
    codes = _nearest(groups / 2.0 ** exponents[..., None], _E2M1[:8], sign=8).reshape(values.shape)
    return codes[:, ::2] | codes[:, 1::2] << 4, (exponents + 127).astype(np.uint8)


def decode_fp4(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    values = np.stack([_E2M1[codes & 15], _E2M1[codes >> 4]], axis=-1).reshape(len(codes), -1)
    return values * np.repeat(2.0 ** (scales.astype(np.float32) - 127), _GROUP, axis=1)


def e4m3_values() -> np.ndarray:
    """What each byte stands for: 1 sign, 4 exponent bits with bias 7, 3 of the fraction; no infinities."""
    byte = np.arange(256)
    sign, exponent, fraction = np.where(byte & 128, -1.0, 1.0), (byte >> 3) & 15, byte & 7
    small, normal = fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7)
    values = sign * np.where(exponent == 0, small, normal)
    values[[127, 255]] = np.nan
    return values.astype(np.float32)


def _nearest(values: np.ndarray, magnitudes: np.ndarray, sign: int = 128) -> np.ndarray:
    codes = np.abs(np.abs(values)[..., None] - magnitudes).argmin(-1)
    return (codes + np.where(values < 0, sign, 0)).astype(np.uint8)


Encoder = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Tensors = dict[str, tuple[str, np.ndarray]]
"""A safetensors type and the array, by name."""


def published(weights: Weights, encode_expert: Encoder = encode_fp4) -> tuple[Tensors, Weights]:
    """The tensors of the published checkpoint, and the numbers they stand for under Hugging Face's names."""
    tensors: Tensors = {}
    numbers: Weights = {}
    for name, array in parted_experts(weights).items():
        bare = published_name(name)
        if is_expert(bare) or is_fp8(bare):
            encode = encode_expert if is_expert(bare) else encode_fp8
            codes, scales = encode(array)
            tensors[bare] = ("I8" if encode is encode_fp4 else "F8_E4M3", codes)
            tensors[bare.removesuffix("weight") + "scale"] = ("F8_E8M0", scales)
            numbers[name] = (decode_fp4 if encode is encode_fp4 else decode_fp8)(codes, scales)
        else:
            tensors[bare] = ("I64", array.astype(np.int64)) if array.dtype == np.int32 else ("F32", array)
            numbers[name] = array
    return tensors, numbers


def published_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Its config.json: one ratio more than layers, for MTP, and the spellings of the published one."""
    plain = {key: value for key, value in config.items() if key not in ("layer_types", "mlp_layer_types")}
    plain["rope_scaling"] = {
        ("type" if key == "rope_type" else key): value for key, value in config["rope_scaling"].items()
    }
    return plain | {
        "architectures": ["DeepseekV4ForCausalLM"],
        "compress_ratios": [_RATIOS[kind] for kind in config["layer_types"][: config["num_hidden_layers"]]] + [0],
        "num_hash_layers": config["mlp_layer_types"].count("hash_moe"),
        "qk_rope_head_dim": round(config["head_dim"] * config["partial_rotary_factor"]),
        "scoring_func": "sqrtsoftplus",
        "num_nextn_predict_layers": 1,
        "expert_dtype": "fp4",
        "quantization_config": {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "scale_fmt": "ue8m0",
            "activation_scheme": "dynamic",
            "weight_block_size": [_BLOCK, _BLOCK],
        },
    }


def write_checkpoint(folder: Path, config: Mapping[str, Any], tensors: Tensors) -> None:
    """A model folder of two shards."""
    (folder / "config.json").write_text(json.dumps(config))
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        specs = [TensorSpec(name, tensors[name][0], tensors[name][1].shape) for name in part]
        writer = SafetensorsWriter(folder / f"model-0000{number}-of-00002.safetensors", specs, {})
        for name in part:
            writer.append(name, np.ascontiguousarray(tensors[name][1]).tobytes())
        writer.close()
