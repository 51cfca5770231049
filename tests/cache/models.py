"""A tiny random model for every kind of cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import afm7, deepseek_v3, falcon_h1, lfm2, llama4, mamba, qwen3_5
from mlx_lm.models.cache import QuantizedKVCache, RotatingKVCache

from omlx.server.cache.codec import LayerCache

from ..engine.tiny_model import VOCABULARY, tiny_llama
from ..models.architectures.deepseek_v4_model import build
from ..models.architectures.random_deepseek_v4 import CONFIGS


def _ready(model: nn.Module) -> nn.Module:
    mx.eval(model.parameters())
    return model


def tiny_mamba() -> nn.Module:
    mx.random.seed(7)
    return _ready(
        mamba.Model(
            mamba.ModelArgs(
                model_type="mamba",
                vocab_size=VOCABULARY,
                hidden_size=16,
                intermediate_size=32,
                state_size=4,
                num_hidden_layers=2,
                conv_kernel=4,
                use_bias=False,
                use_conv_bias=True,
                time_step_rank=2,
            )
        )
    )


def tiny_lfm2() -> nn.Module:
    mx.random.seed(7)
    return _ready(
        lfm2.Model(
            lfm2.ModelArgs(
                model_type="lfm2",
                vocab_size=VOCABULARY,
                hidden_size=32,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=4096,
                norm_eps=1e-5,
                conv_bias=False,
                conv_L_cache=3,
                block_dim=32,
                block_multiple_of=8,
                block_ffn_dim_multiplier=1.0,
                block_auto_adjust_ff_dim=False,
                block_ff_dim=64,
                layer_types=["conv", "full_attention", "conv"],
            )
        )
    )


def tiny_falcon_h1() -> nn.Module:
    mx.random.seed(7)
    return _ready(
        falcon_h1.Model(
            falcon_h1.ModelArgs(
                head_dim=8,
                hidden_size=32,
                intermediate_size=64,
                mamba_d_head=8,
                mamba_d_ssm=32,
                mamba_d_state=8,
                mamba_n_heads=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                num_hidden_layers=2,
                vocab_size=VOCABULARY,
            )
        )
    )


QWEN3_5: dict[str, Any] = {
    "model_type": "qwen3_5",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "full_attention_interval": 2,
    "tie_word_embeddings": False,
}


def tiny_qwen3_5() -> nn.Module:
    """Gated delta nets with full attention between them."""
    mx.random.seed(7)
    return _ready(qwen3_5.Model(qwen3_5.ModelArgs.from_dict(QWEN3_5)))


def tiny_mla() -> nn.Module:
    """One latent and one rotated key a token, for all heads."""
    mx.random.seed(7)
    return _ready(
        deepseek_v3.Model(
            deepseek_v3.ModelArgs(
                vocab_size=VOCABULARY,
                hidden_size=32,
                intermediate_size=48,
                moe_intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                n_shared_experts=1,
                n_routed_experts=4,
                num_experts_per_tok=2,
                first_k_dense_replace=1,
                kv_lora_rank=16,
                q_lora_rank=16,
                qk_rope_head_dim=8,
                qk_nope_head_dim=8,
                v_head_dim=8,
                max_position_embeddings=4096,
            )
        )
    )


def tiny_llama4() -> nn.Module:
    """Attention within a chunk of the text in three layers, over all of it in the fourth."""
    mx.random.seed(7)
    text = {
        "model_type": "llama4_text",
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 32,
        "intermediate_size_mlp": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "attention_chunk_size": 200,
        "attention_bias": False,
        "interleave_moe_layer_step": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "use_qk_norm": True,
    }
    return _ready(llama4.Model(llama4.ModelArgs(text, "llama4")))


def tiny_deepseek_v4() -> nn.Module:
    return build({**CONFIGS["full"], "vocab_size": VOCABULARY})


def tiny_afm7() -> nn.Module:
    """Its last layer's cache is a `ConcatenateKVCache`, whose keys and values the layers after it use, too."""
    mx.random.seed(7)
    args = afm7.ModelArgs(
        model_type="afm7",
        vocab_size=VOCABULARY,
        hidden_dim=32,
        num_layers=3,
        num_kv_reuse_layers=1,
        num_heads=4,
        num_kv_heads=2,
    )
    return _ready(afm7.Model(args))


def tiny_llama_with(make_cache: Callable[[], LayerCache], head_dim: int | None = None) -> nn.Module:
    """A llama both of whose layers get such a cache, as from a server that is told to quantize or to bound them."""
    model: Any = tiny_llama(head_dim=head_dim)
    model.make_cache = lambda: [make_cache() for _ in model.layers]
    return model


MODELS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "full attention": tiny_llama,
        "MLA": tiny_mla,
        "quantized": lambda: tiny_llama_with(lambda: QuantizedKVCache(group_size=32, bits=8), head_dim=32),
        "concatenated": tiny_afm7,
        "chunks": tiny_llama4,
        "sliding window": lambda: tiny_llama(["full_attention", "sliding_attention"]),
        "window that keeps its head": lambda: tiny_llama_with(lambda: RotatingKVCache(max_size=1024, keep=4)),
        "recurrent": tiny_mamba,
        "hybrid": tiny_lfm2,
        "Qwen3.5 hybrid": tiny_qwen3_5,
        "lists of caches": tiny_falcon_h1,
        "DeepSeek V4": tiny_deepseek_v4,
    }
)
