"""Small DeepSeek V4 configurations with every feature on, and random weights for them from a seed alone.

Numpy only: the reference (torch) and the tests (MLX) make the same weights out of this file, so that no
weights need to be kept. Names and shapes are Hugging Face's.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]
_FULL: dict[str, Any] = {
    "model_type": "deepseek_v4",
    "vocab_size": 96,
    "hidden_size": 32,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "head_dim": 32,
    "q_lora_rank": 32,
    "partial_rotary_factor": 0.5,
    "num_experts_per_tok": 2,
    "n_routed_experts": 8,
    "routed_scaling_factor": 1.5,
    "o_groups": 2,
    "o_lora_rank": 16,
    "index_n_heads": 32,
    "index_head_dim": 16,
    "index_topk": 8,
    "sliding_window": 128,
    "layer_types": [
        "sliding_attention",
        "compressed_sparse_attention",
        "heavily_compressed_attention",
        "compressed_sparse_attention",
    ],
    "mlp_layer_types": ["hash_moe", "hash_moe", "moe", "moe"],
    "max_position_embeddings": 65536,
    "swiglu_limit": 0.5,
    "rope_theta": 10000.0,
    "compress_rope_theta": 160000.0,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32,
        "beta_slow": 1,
    },
    "hc_mult": 4,
    "hc_sinkhorn_iters": 20,
    "hc_eps": 1e-6,
    "rms_norm_eps": 1e-6,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "full": _FULL,
    # A window far shorter than a block of 128, few streams, all rows of the pool read, routing by score only.
    "short_window": _FULL
    | {
        "num_hidden_layers": 3,
        "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention", "sliding_attention"],
        "mlp_layer_types": ["moe"] * 3,
        "sliding_window": 16,
        "index_topk": 512,
        "o_groups": 4,
        "hc_mult": 2,
        "hc_sinkhorn_iters": 3,
        "rope_scaling": None,
    },
}
LENGTH = 300
POSITIONS = [*range(4), *range(60, 67), *range(124, 135), *range(252, 261), *range(296, 300)]
"""Where reference logits are kept: about the edges of windows of 4 and 128."""
GREEDY_PROMPTS = (5, 130)
GREEDY_TOKENS = 64
LONG = 4100
LONG_CONFIGS: dict[str, dict[str, Any]] = {
    f"long {name}, top {top_k}": CONFIGS[name] | {"index_topk": top_k, "vocab_size": 97}
    for name, top_k in (("full", 8), ("full", 2048), ("short_window", 8))
}
"""With these weights no choice of rows or experts hangs on less than float32 can tell. Where one does (a few positions
in ten thousand), transformers answers differently itself when the prompt comes in other pieces."""
LONG_POSITIONS = [
    *(0, 63, 126, 127, 128, 129, 299, 511, 512, 1022, 1023, 1024, 1025, 2046, 2047, 2048, 2049, 3071, 3072),
    *(3966, 3967, 3968, 3969, *range(4090, LONG)),
]


def random_tokens(config: Mapping[str, Any], length: int = LENGTH) -> np.ndarray:
    """One prompt of token ids, always the same: [length]."""
    return np.random.default_rng(17).integers(0, config["vocab_size"], length).astype(np.int32)


def random_weights(config: Mapping[str, Any]) -> Weights:
    """Every tensor of the model in float32 (the hash table in int32), the same on every machine."""
    return {name: _values(name, shape, config) for name, shape in _shapes(config).items()}


def mtp_weights(config: Mapping[str, Any]) -> Weights:
    """The tensors of an MTP layer: a window-only layer with scored experts, and what joins it to the model."""
    hidden, streams = config["hidden_size"], config["hc_mult"]
    shapes: dict[str, tuple[int, ...]] = _layer(config, "sliding_attention", "moe") | {
        "e_proj.weight": (hidden, hidden),
        "h_proj.weight": (hidden, hidden),
        "enorm.weight": (hidden,),
        "hnorm.weight": (hidden,),
        "norm.weight": (hidden,),
        "hc_head_fn": (streams, streams * hidden),
        "hc_head_base": (streams,),
        "hc_head_scale": (1,),
    }
    return {f"mtp.0.{name}": _values(f"mtp.0.{name}", shape, config) for name, shape in shapes.items()}


def foretelling_weights(config: Mapping[str, Any]) -> Weights:
    """Weights whose layers add nothing: the next token follows from the last alone, and MTP knows it as well."""
    weights = random_weights(config) | mtp_weights(config)
    for name, array in weights.items():
        if name.endswith(("o_b_proj.weight", "down_proj.weight", "down_proj", "h_proj.weight")):
            weights[name] = np.zeros_like(array)
    weights["mtp.0.e_proj.weight"] = np.eye(config["hidden_size"], dtype=np.float32)
    weights["mtp.0.enorm.weight"] = np.ones(config["hidden_size"], np.float32)
    weights["mtp.0.norm.weight"] = weights["model.norm.weight"]
    for kind in ("fn", "base", "scale"):
        weights[f"mtp.0.hc_head_{kind}"] = weights[f"model.hc_head.hc_{kind}"]
    return weights


def digest(weights: Weights) -> str:
    """What a reference made of these weights is marked with."""
    joined = hashlib.sha256()
    for name in sorted(weights):
        joined.update(name.encode() + np.ascontiguousarray(weights[name]).tobytes())
    return joined.hexdigest()[:16]


def _values(name: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> np.ndarray:
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("tid2eid"):
        return np.argsort(random.random((shape[0], config["n_routed_experts"])), axis=1)[:, : shape[1]].astype(np.int32)
    values = (2 * random.random(shape) - 1).astype(np.float32)
    if name.endswith(("norm.weight", "scale")):
        return 1 + 0.4 * values
    if len(shape) == 1 or name.endswith("position_bias"):
        return values
    return values * np.float32(2.5 / shape[-1] ** 0.5)


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    vocabulary, hidden, streams = config["vocab_size"], config["hidden_size"], config["hc_mult"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "model.hc_head.hc_fn": (streams, streams * hidden),
        "model.hc_head.hc_base": (streams,),
        "model.hc_head.hc_scale": (1,),
        "lm_head.weight": (vocabulary, hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        parts = _layer(config, config["layer_types"][layer], config["mlp_layer_types"][layer])
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in parts.items()}
    return shapes


def _layer(config: Mapping[str, Any], attention: str, feed_forward: str) -> dict[str, tuple[int, ...]]:
    hidden, streams = config["hidden_size"], config["hc_mult"]
    parts = _attention(config, attention) | _feed_forward(config, feed_forward)
    for block in ("attn_hc", "ffn_hc"):
        rows = (2 + streams) * streams
        parts |= {f"{block}.fn": (rows, streams * hidden), f"{block}.base": (rows,), f"{block}.scale": (3,)}
    return parts | {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}


def _attention(config: Mapping[str, Any], kind: str) -> dict[str, tuple[int, ...]]:
    hidden, low, heads, dim = (config[key] for key in ("hidden_size", "q_lora_rank", "num_attention_heads", "head_dim"))
    groups, rank = config["o_groups"], config["o_lora_rank"]
    shapes: dict[str, tuple[int, ...]] = {
        "q_a_proj.weight": (low, hidden),
        "q_a_norm.weight": (low,),
        "q_b_proj.weight": (heads * dim, low),
        "kv_proj.weight": (dim, hidden),
        "kv_norm.weight": (dim,),
        "o_a_proj.weight": (groups * rank, heads * dim // groups),
        "o_b_proj.weight": (hidden, groups * rank),
        "sinks": (heads,),
    }
    if kind == "heavily_compressed_attention":
        shapes |= _compressor("compressor", 128, hidden, dim, dim)
    if kind == "compressed_sparse_attention":
        index_heads, index_dim = config["index_n_heads"], config["index_head_dim"]
        shapes |= _compressor("compressor", 4, hidden, 2 * dim, dim)
        shapes |= _compressor("compressor.indexer", 4, hidden, 2 * index_dim, index_dim)
        shapes["compressor.indexer.q_b_proj.weight"] = (index_heads * index_dim, low)
        shapes["compressor.indexer.scorer.weights_proj.weight"] = (index_heads, hidden)
    return {f"self_attn.{name}": shape for name, shape in shapes.items()}


def _compressor(name: str, ratio: int, hidden: int, width: int, dim: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.kv_proj.weight": (width, hidden),
        f"{name}.gate_proj.weight": (width, hidden),
        f"{name}.position_bias": (ratio, width),
        f"{name}.kv_norm.weight": (dim,),
    }


def _feed_forward(config: Mapping[str, Any], kind: str) -> dict[str, tuple[int, ...]]:
    hidden, inner, experts = config["hidden_size"], config["moe_intermediate_size"], config["n_routed_experts"]
    choice = {"gate.e_score_correction_bias": (experts,)}
    if kind == "hash_moe":
        choice = {"gate.tid2eid": (config["vocab_size"], config["num_experts_per_tok"])}
    shapes: dict[str, tuple[int, ...]] = choice | {
        "gate.weight": (experts, hidden),
        "experts.gate_up_proj": (experts, 2 * inner, hidden),
        "experts.down_proj": (experts, hidden, inner),
        "shared_experts.gate_proj.weight": (inner, hidden),
        "shared_experts.up_proj.weight": (inner, hidden),
        "shared_experts.down_proj.weight": (hidden, inner),
    }
    return {f"mlp.{name}": shape for name, shape in shapes.items()}
