"""Our model with the random weights of a configuration, and how far its logits are from others."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from omlx.server.models.architectures.deepseek_v4 import Model, ModelArgs
from omlx.server.models.architectures.deepseek_v4.cache import LayerCache

from .random_deepseek_v4 import Weights, random_weights

TOLERANCE = 1e-4
"""Of the largest logit, in float32: the parity that is promised. What is seen is about 1e-6."""


def build(config: Mapping[str, Any], weights: Weights | None = None) -> Model:
    model = Model(ModelArgs.from_dict(copy.deepcopy(dict(config))))
    arrays = {name: mx.array(array) for name, array in (weights or random_weights(config)).items()}
    model.load_weights(list(model.sanitize(arrays).items()), strict=True)
    model.eval()
    return model


def feed(model: Model, tokens: np.ndarray, caches: list[LayerCache]) -> np.ndarray:
    """The logits of tokens [L] or [B, L] that follow what the caches hold: [L, vocabulary] or [B, L, vocabulary]."""
    logits = model(mx.array(np.atleast_2d(tokens)), caches)
    mx.eval(logits, [cache.state for cache in caches])
    return np.array(logits[0] if tokens.ndim == 1 else logits)


def in_pieces(model: Model, tokens: np.ndarray, lengths: Iterable[int]) -> np.ndarray:
    """The logits of tokens [L] fed in pieces of these lengths to one cache."""
    caches, start, found = model.make_cache(), 0, []
    for length in lengths:
        found.append(feed(model, tokens[start : start + length], caches))
        start += length
    assert start == len(tokens)
    return np.concatenate(found)


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest expected value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def snapshot(caches: Sequence[LayerCache]) -> list[LayerCache]:
    """The caches as they come back from a file: through their states, sharing nothing."""
    return [
        LayerCache.from_state([mx.array(np.array(array)) for array in cache.state], cache.meta_state)
        for cache in caches
    ]
