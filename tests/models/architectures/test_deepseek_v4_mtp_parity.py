"""DeepSeek V4's MTP layer against the same layer in numpy, written from its definition, sharing no code with ours."""

from __future__ import annotations

from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest

from omlx.server.models.architectures.deepseek_v4 import Model
from omlx.server.models.architectures.deepseek_v4.cache import LayerCache

from .deepseek_v4_model import TOLERANCE, build, distance
from .random_deepseek_v4 import CONFIGS, Weights, mtp_weights, random_tokens, random_weights
from .reference_deepseek_v4_mtp import draft_logits, logits_of

LENGTHS = (1, 2, 64, 127, 128, 129, 130, 300)
WEIGHTS: dict[str, Weights] = {name: random_weights(config) | mtp_weights(config) for name, config in CONFIGS.items()}
for_each_config = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: build(config, WEIGHTS[name]) for name, config in CONFIGS.items()}


def _streams(model: Model, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The model's logits, and the streams each position ended with."""
    logits, streams = model.forward(mx.array(tokens[None]), model.make_cache())
    return np.array(logits[0]), np.array(streams[0])


def _draft(model: Model, token_ids: np.ndarray, streams: np.ndarray, caches: list[LayerCache]) -> np.ndarray:
    """Of one sequence, or of rows of them."""
    rows = streams[None] if token_ids.ndim == 1 else streams
    logits = np.array(model.draft(mx.array(np.atleast_2d(token_ids)), mx.array(rows), caches))
    return logits[0] if token_ids.ndim == 1 else logits


@for_each_config
@pytest.mark.parametrize("length", LENGTHS)
def test_drafts_are_the_reference_s(name: str, length: int, models: dict[str, Model]) -> None:
    tokens = random_tokens(CONFIGS[name], length + 1)
    _, streams = _streams(models[name], tokens)
    found = _draft(models[name], tokens[1:], streams[:-1], models[name].make_draft_cache())
    assert distance(found, draft_logits(CONFIGS[name], WEIGHTS[name], tokens[1:], streams[:-1])) < TOLERANCE


@for_each_config
@pytest.mark.parametrize(
    "cuts", [range(301), range(0, 301, 50), (0, 126, 127, 129, 130, 258, 300)], ids=["ones", "fifties", "edges"]
)
def test_drafts_in_pieces_are_the_reference_s(name: str, cuts: tuple[int, ...], models: dict[str, Model]) -> None:
    tokens = random_tokens(CONFIGS[name], 301)
    _, streams = _streams(models[name], tokens)
    caches = models[name].make_draft_cache()
    found = [
        _draft(models[name], tokens[start + 1 : stop + 1], streams[start:stop], caches)
        for start, stop in pairwise(cuts)
    ]
    expected = draft_logits(CONFIGS[name], WEIGHTS[name], tokens[1:], streams[:-1])
    assert distance(np.concatenate(found), expected) < TOLERANCE


@for_each_config
def test_drafts_of_rows_of_unequal_lengths_are_the_reference_s(name: str, models: dict[str, Model]) -> None:
    model, lengths, more = models[name], (3, 140, 17), 5
    tokens = random_tokens(CONFIGS[name], 141 + more)
    _, streams = _streams(model, tokens)
    batch = LayerCache.merge([model.make_draft_cache()[0] for _ in lengths])
    batch.prepare(lengths=lengths, right_padding=[max(lengths) - length for length in lengths])
    _draft(model, np.stack([tokens[1 : max(lengths) + 1]] * 3), np.stack([streams[: max(lengths)]] * 3), [batch])
    batch.finalize()
    following = [slice(length, length + more) for length in lengths]
    next_tokens = np.stack([tokens[1:][each] for each in following])
    found = _draft(model, next_tokens, np.stack([streams[each] for each in following]), [batch])
    expected = draft_logits(CONFIGS[name], WEIGHTS[name], tokens[1:], streams[:-1])
    for row, each in zip(found, following, strict=True):
        assert distance(row, expected[each]) < TOLERANCE


@for_each_config
def test_the_streams_it_goes_on_from_are_those_the_model_s_own_logits_are_made_of(
    name: str, models: dict[str, Model]
) -> None:
    logits, streams = _streams(models[name], random_tokens(CONFIGS[name], 140))
    weights = WEIGHTS[name]
    head = [weights[f"model.hc_head.hc_{kind}"] for kind in ("fn", "base", "scale")]
    expected = logits_of(CONFIGS[name], weights, streams, head, weights["model.norm.weight"])
    assert distance(logits, expected) < TOLERANCE


def test_every_tensor_of_the_layer_has_a_say_in_the_reference_s_drafts() -> None:
    config, weights = CONFIGS["full"], WEIGHTS["full"]
    tokens = random_tokens(config, 24)
    streams = np.random.default_rng(3).standard_normal((24, config["hc_mult"], config["hidden_size"]))
    expected = draft_logits(config, weights, tokens, streams)
    for name in mtp_weights(config):
        other = weights[name][::-1] if len(weights[name]) > 1 else weights[name] * 2
        assert distance(draft_logits(config, {**weights, name: other}, tokens, streams), expected) > 10 * TOLERANCE, (
            name
        )
