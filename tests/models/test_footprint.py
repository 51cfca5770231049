"""What a model is said to take is what its caches really take, for every kind of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import deepseek_v2, deepseek_v3, gemma3_text, qwen3_next
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.models.catalog import weight_headers
from omlx.server.models.folder import read_config
from omlx.server.models.footprint import Footprint, footprint_of
from omlx.server.models.loading import load_model
from omlx.server.models.safetensors_file import SafetensorsHeader, TensorSpec

from ..cache.models import MODELS
from .architectures.published_deepseek_v4 import (
    CONFIG,
    encode_fp4,
    encode_fp8,
    published,
    published_config,
    write_checkpoint,
)
from .architectures.random_deepseek_v4 import CONFIGS, random_weights

TOKENS = 512
"""Caches grow by 256 tokens: they hold no room for more then."""
_STEP = 32
LATENT = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": None,
    "vocab_size": 97,
}
GEMMA = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 32,
    "sliding_window_pattern": 4,
    "vocab_size": 97,
}
QWEN = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4,
    "num_experts": 0,
    "num_experts_per_tok": 0,
    "decoder_sparse_step": 1,
    "shared_expert_intermediate_size": 32,
    "mlp_only_layers": [],
    "moe_intermediate_size": 32,
    "rms_norm_eps": 1e-5,
    "vocab_size": 97,
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "max_position_embeddings": 4096,
    "full_attention_interval": 4,
}
FAMILIES = {
    "deepseek_v3": (deepseek_v3, LATENT),
    "deepseek_v2": (deepseek_v2, {**LATENT, "rope_scaling": {"factor": 2.0, "original_max_position_embeddings": 64}}),
    "gemma3_text": (gemma3_text, GEMMA),
    "qwen3_next": (qwen3_next, QWEN),
}
ASKED_FOR = ("quantized", "window that keeps its head")
"""Caches that no config has, but who runs a model may ask mlx-lm for."""
CASES = [*(name for name in MODELS if name not in ASKED_FOR), *FAMILIES]


def model_and_config(name: str) -> tuple[Any, Mapping[str, Any]]:
    if name in FAMILIES:
        module, values = FAMILIES[name]
        config = {"model_type": name, **values}
        return module.Model(module.ModelArgs.from_dict(config)), config
    model: Any = MODELS[name]()
    return model, CONFIGS["full"] if name == "DeepSeek V4" else asdict(model.args)


def footprint(config: Mapping[str, Any], weight_bytes: int = 4) -> Footprint:
    tensors = (TensorSpec("w", "F32", (weight_bytes // 4,)),)
    return footprint_of(config, [SafetensorsHeader(tensors, {})])


def held(model: Any, num_tokens: int) -> int:
    """The bytes of the caches after so many tokens."""
    caches = make_prompt_cache(model)
    ends = [*range(0, num_tokens, _STEP), num_tokens - 1, num_tokens]
    for start, stop in pairwise(ends):
        model(mx.array([[position % 90 for position in range(start, stop)]]), cache=caches)
    arrays = [array for cache in caches for _, array in tree_flatten(cache.state) if isinstance(array, mx.array)]
    mx.eval(arrays)
    return sum(array.nbytes for array in arrays)


@pytest.mark.parametrize("name", CASES)
def test_the_memory_of_a_sequence_is_told_from_the_config(name: str):
    model, config = model_and_config(name)
    kept = held(model, TOKENS)
    assert 0.9 * kept <= footprint(config).kv_bytes(TOKENS) <= 1.5 * kept


@pytest.mark.parametrize("encode_expert", [encode_fp4, encode_fp8], ids=["fp4 experts", "fp8 experts"])
def test_weights_in_fp8_are_counted_as_they_are_held(tmp_path: Path, encode_expert: Any):
    write_checkpoint(tmp_path, published_config(CONFIG), published(random_weights(CONFIG), encode_expert)[0])
    headers, held_bytes = weight_headers(tmp_path), load_model(tmp_path).weight_bytes
    assert sum(header.size_bytes for header in headers) < 0.9 * held_bytes
    assert 0.97 < footprint_of(read_config(tmp_path), headers).weight_bytes / held_bytes < 1.03


def test_numbers_are_as_wide_as_the_norms_that_every_token_passes():
    tensors = [TensorSpec(f"layers.{layer}.attn_norm.weight", "BF16", (8,)) for layer in range(2)]
    tensors += [TensorSpec(f"layers.{layer}.attn_hc.{kind}", "F32", (8,)) for layer in range(2) for kind in "abc"]
    config = {"num_hidden_layers": 2, "num_attention_heads": 1, "hidden_size": 8}
    assert footprint_of(config, [SafetensorsHeader(tuple(tensors), {})]).token_bytes == 2 * 16 * 2


def test_a_window_is_shortened_to_what_fits_and_no_further():
    shape = footprint({"num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512}, weight_bytes=1 << 20)
    whole = shape.total_bytes(8192)
    assert shape.window_within(whole, 8192) == 8192
    shorter = shape.window_within(whole - 1, 8192)
    assert shorter == 8192 - 256
    assert shape.total_bytes(shorter) <= whole - 1 < shape.total_bytes(shorter + 256)
    assert shape.window_within(shape.weight_bytes, 8192) == 0


def test_what_only_a_window_keeps_stops_growing():
    config = {"num_hidden_layers": 2, "num_attention_heads": 1, "hidden_size": 8, "sliding_window": 100}
    sliding = footprint({**config, "layer_types": ["sliding_attention", "full_attention"]})
    assert sliding.kv_bytes(100) == 2 * 100 * 16 * 4
    assert sliding.kv_bytes(1000) == 1000 * 16 * 4 + 100 * 16 * 4


@pytest.mark.parametrize(
    "nonsense", ["x", -1, [None], [-1] * 2, [10**400] * 2, {"a": 1}, True, 1 << 80, 10**400, -(10**400), math.nan]
)
def test_a_config_of_nonsense_has_a_footprint(nonsense: Any):
    known = ("num_hidden_layers", "head_dim", "layer_types", "compress_ratios", "num_key_value_heads", "sliding_window")
    for key in (*known, "num_attention_heads", "hidden_size", "intermediate_size"):
        config = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, key: nonsense}
        found = footprint(config)
        assert min(found.kv_bytes(10), found.transient_bytes(10)) >= 0, key
        assert found.describe(10)


def test_what_is_set_aside_for_a_sequence_grows_by_pieces():
    footprint = Footprint(weight_bytes=0, token_bytes=10, state_bytes=5, growth_tokens=256)
    assert [footprint.held_bytes(count) for count in (1, 256, 257)] == [2565, 2565, 5125]
