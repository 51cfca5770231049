"""Tiny random models, one for each kind of cache, and the plainest way to run them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.cache.codec import CacheCodec
from omlx.server.cache.disk_tier import DiskLimits, DiskTier
from omlx.server.cache.prefix_cache import PrefixCache
from omlx.server.engine.batch import BatchInfo
from omlx.server.engine.decode_layout import DecodeLayout, Forward
from omlx.server.engine.messages import Submit
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.slot_layout import SlotLayout
from omlx.server.engine.speculation import Drafter
from omlx.server.requests import SamplingParams

VOCABULARY = 97
GREEDY = SamplingParams(temperature=0)


def tiny_llama(layer_types: list[str] | None = None, head_dim: int | None = None) -> nn.Module:
    """Two layers of random float32 weights, always the same."""
    mx.random.seed(7)
    model = llama.Model(
        llama.ModelArgs(
            model_type="llama",
            hidden_size=32,
            num_hidden_layers=2,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=head_dim,
            rms_norm_eps=1e-5,
            vocab_size=VOCABULARY,
            layer_types=layer_types,
            sliding_window=16 if layer_types else None,
        )
    )
    mx.eval(model.parameters())
    return model


def greedy_solo(model: nn.Module, prompt: list[int], count: int) -> list[int]:
    """What the model writes alone, from one forward pass over the prompt."""
    caches = make_prompt_cache(model)
    tokens = list(prompt)
    inputs = prompt
    for _ in range(count):
        logits = model(mx.array([inputs]), cache=caches)[0, -1]
        inputs = [int(mx.argmax(logits))]
        tokens += inputs
    return tokens[len(prompt) :]


def make_batch(
    model: nn.Module,
    layout: DecodeLayout | None = None,
    max_bytes: int = 1 << 26,
    disk: Path | None = None,
    identity: str = "test",
    runs_ahead: bool = False,
    drafters: Sequence[Drafter] | None = None,
    run: Forward | None = None,
) -> MlxBatch:
    """A batch on the model; with `disk`, its prefix cache has a tier there. `run` is called in the model's stead."""
    codec = CacheCodec(lambda: make_prompt_cache(model))
    lower = None if disk is None else DiskTier(disk, identity, codec, DiskLimits(free_share=1.0))
    info = BatchInfo("test", 0, checkpointed=not codec.divisible)
    prefix_cache = PrefixCache(identity, max_bytes, lower)
    steps = itertools.count()  # a clock by which every step takes as long, so that drafts are a matter of tokens only
    return MlxBatch(
        run or model,
        info,
        layout or SlotLayout(model),
        codec,
        prefix_cache,
        VOCABULARY,
        clock=lambda: float(next(steps)),
        runs_ahead=runs_ahead,
        drafters=drafters,
    )


def submit(request_id: str, prompt: list[int], max_tokens: int = 8, sampling: SamplingParams = GREEDY) -> Submit:
    return Submit(request_id, prompt, max_tokens, sampling=sampling)


def prompt_of(length: int, seed: int = 1) -> list[int]:
    """Tokens that look random and are always the same."""
    return [(seed * 31 + position * position * 7 + position * seed) % VOCABULARY for position in range(length)]
