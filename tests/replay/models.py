"""Tiny models for long prompts: one narrow attention head a layer, so that 20,000 tokens cost a CPU seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import lfm2, llama
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.cache.codec import CacheCodec
from omlx.server.cache.prefix_cache import PrefixCache
from omlx.server.engine.batch import BatchInfo
from omlx.server.engine.decode_layout import SerialLayout
from omlx.server.engine.mlx_batch import MlxBatch

from ..tiny_model import VOCABULARY

_HEAD_DIM = 8


def _narrow_llama(layer_types: list[str] | None = None) -> nn.Module:
    arguments = llama.ModelArgs(
        model_type="llama",
        hidden_size=_HEAD_DIM,
        num_hidden_layers=2,
        intermediate_size=_HEAD_DIM,
        num_attention_heads=1,
        num_key_value_heads=1,
        rms_norm_eps=1e-5,
        vocab_size=VOCABULARY,
        layer_types=layer_types,
        sliding_window=1024 if layer_types else None,
    )
    return _ready(llama.Model, arguments)


def _narrow_lfm2() -> nn.Module:
    arguments = lfm2.ModelArgs(
        model_type="lfm2",
        vocab_size=VOCABULARY,
        hidden_size=_HEAD_DIM,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=131072,
        norm_eps=1e-5,
        conv_bias=False,
        conv_L_cache=3,
        block_dim=_HEAD_DIM,
        block_multiple_of=8,
        block_ffn_dim_multiplier=1.0,
        block_auto_adjust_ff_dim=False,
        block_ff_dim=_HEAD_DIM,
        layer_types=["conv", "full_attention"],
    )
    return _ready(lfm2.Model, arguments)


def _ready(make: Callable[..., nn.Module], arguments: object) -> nn.Module:
    mx.random.seed(7)
    model = make(arguments)
    mx.eval(model.parameters())
    return model


MODELS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "plain": _narrow_llama,
        "sliding window": lambda: _narrow_llama(["full_attention", "sliding_attention"]),
        "recurrent hybrid": _narrow_lfm2,
    }
)


def batch_of(model: nn.Module) -> MlxBatch:
    """One that drafts nothing: what it chooses is dictated, a token a step."""
    codec = CacheCodec(lambda: make_prompt_cache(model))
    info = BatchInfo("test", 0, checkpointed=not codec.divisible)
    return MlxBatch(model, info, SerialLayout(model), codec, PrefixCache("test", 1 << 30), VOCABULARY, drafters=[])
