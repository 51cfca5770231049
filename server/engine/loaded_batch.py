"""From a model's folder to a batch that runs it."""

from __future__ import annotations

import os
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from ..cache.prefix_cache import PrefixCache
from ..models.loading import load_model
from . import memory
from .batch import BatchInfo
from .layout_choice import choose_layout
from .mlx_batch import MlxBatch


def load_batch(path: Path) -> MlxBatch:
    """Load the model and bound what MLX may hold on to. The wired limit is left as the system set it.

    Raises `ModelError`.
    """
    loaded = load_model(path)
    model = loaded.model
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    budget = memory.plan(total, loaded.weight_bytes)
    mx.set_cache_limit(budget.buffers)
    vocabulary = model(mx.array([[0]]), cache=make_prompt_cache(model)).shape[-1]
    choice = choose_layout(model, lambda: make_prompt_cache(model))
    info = BatchInfo(
        device=str(mx.default_device()),
        weight_bytes=loaded.weight_bytes,
        batching=choice.batching,
        batching_reason=choice.reason,
    )
    return MlxBatch(
        model,
        info,
        choice.layout,
        lambda: make_prompt_cache(model),
        PrefixCache(str(path), budget.prefix_cache),
        vocabulary,
    )
