"""Tiny random models that can be divided among ranks, as folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models import llama, qwen3_moe

from ...models.architectures.random_deepseek_v4 import CONFIGS, foretelling_weights, random_weights

_SHAPE: Mapping[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": 97,
    "max_position_embeddings": 8192,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


def write_llama(folder: Path) -> Path:
    config = {**_SHAPE, "model_type": "llama"}
    mx.random.seed(3)
    return _write(folder, config, llama.Model(llama.ModelArgs.from_dict(config)))


def write_mixture(folder: Path) -> Path:
    config = {
        **_SHAPE,
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    }
    mx.random.seed(3)
    return _write(folder, config, qwen3_moe.Model(qwen3_moe.ModelArgs.from_dict(config)))


_DEEPSEEK_V4: Mapping[str, Any] = {**CONFIGS["full"], "vocab_size": 97, "num_attention_heads": 8, "o_groups": 4}


def write_deepseek_v4(folder: Path) -> Path:
    weights = random_weights(_DEEPSEEK_V4)
    return _save(folder, _DEEPSEEK_V4, {name: mx.array(array) for name, array in weights.items()})


def write_deepseek_v4_with_mtp(folder: Path) -> Path:
    """One whose MTP layer guesses right."""
    weights = foretelling_weights(_DEEPSEEK_V4)
    return _save(folder, _DEEPSEEK_V4, {name: mx.array(array) for name, array in weights.items()})


def _write(folder: Path, config: Mapping[str, Any], model: nn.Module) -> Path:
    return _save(folder, config, dict(tree_flatten(model.parameters())))


def _save(folder: Path, config: Mapping[str, Any], weights: dict[str, mx.array]) -> Path:
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def shard_name(number: int) -> str:
    return f"model-{number + 1:05}-of-00005.safetensors"


def shard_by_layers(folder: Path) -> Path:
    """The same model with a file for each of its four layers, and the first for what is in none."""
    whole: Any = mx.load(str(folder / "model.safetensors"))
    shards: dict[str, dict[str, mx.array]] = {}
    for name, array in whole.items():
        in_layer = re.match(r"model\.layers\.(\d+)\.", name)
        shards.setdefault(shard_name(int(in_layer[1]) + 1 if in_layer else 0), {})[name] = array
    for shard, arrays in shards.items():
        mx.save_safetensors(str(folder / shard), arrays, metadata={"format": "mlx"})
    (folder / "model.safetensors").unlink()
    index = {name: shard for shard, arrays in shards.items() for name in arrays}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder
