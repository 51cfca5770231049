"""A prompt's memory grows with its length, not with its square."""

from __future__ import annotations

import gc

import mlx.core as mx

from omlx.server.models.architectures.deepseek_v4 import Model

from .deepseek_v4_model import build
from .random_deepseek_v4 import CONFIGS, random_tokens

# Few heads and experts keep the time down; the indexer still chooses among far more rows than it keeps.
CONFIG = CONFIGS["full"] | {
    "num_hidden_layers": 2,
    "index_n_heads": 2,
    "index_topk": 16,
    "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"],
    "mlp_layer_types": ["moe", "moe"],
}


def peak(model: Model, length: int) -> int:
    """Bytes above what is held before, for one prompt in one piece."""
    tokens = mx.array(random_tokens(CONFIG, length))[None]
    gc.collect()  # or what others left would seem to be given back by this
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    caches = model.make_cache()
    mx.eval(model.model(tokens, caches), [cache.state for cache in caches])
    return mx.get_peak_memory() - held


def test_four_times_the_prompt_takes_four_times_the_memory() -> None:
    model = build(CONFIG)
    assert peak(model, 16384) < 4.4 * peak(model, 4096)  # with the square it would be sixteen times
