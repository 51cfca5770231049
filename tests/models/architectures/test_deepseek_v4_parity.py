"""DeepSeek V4 against transformers: logits and greedy answers kept in deepseek_v4_reference.npz."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from .conftest import Case
from .deepseek_v4_model import TOLERANCE, distance, feed, in_pieces
from .random_deepseek_v4 import GREEDY_PROMPTS, GREEDY_TOKENS, LENGTH, POSITIONS, digest, random_weights

REFERENCE = np.load(Path(__file__).with_name("deepseek_v4_reference.npz"))


def test_the_reference_was_made_of_the_weights_the_tests_make(case: Case) -> None:
    assert str(REFERENCE[f"{case.name}.digest"]) == digest(random_weights(case.config))


def test_one_piece_gives_the_reference_logits(case: Case) -> None:
    assert distance(case.logits[POSITIONS], REFERENCE[f"{case.name}.logits"]) < TOLERANCE


@pytest.mark.parametrize("length", [1, 2, 64, 127, 128, 129, 130])
def test_a_prompt_of_any_length_ends_with_the_reference_logits(case: Case, length: int) -> None:
    last = feed(case.model, case.tokens[:length], case.model.make_cache())[-1]
    if length - 1 in POSITIONS:
        assert distance(last, REFERENCE[f"{case.name}.logits"][POSITIONS.index(length - 1)]) < TOLERANCE
    assert distance(last, case.logits[length - 1]) < TOLERANCE


@pytest.mark.parametrize(
    "lengths",
    [[64] * 4 + [44], [37] * 8 + [4], [150, *[3] * 50], [127, 1, 1, 1, 170], [7, 256, 37]],
    ids=lambda lengths: f"{len(lengths)} pieces from {lengths[0]}",
)
def test_pieces_of_any_size_give_the_logits_of_one(case: Case, lengths: list[int]) -> None:
    found = in_pieces(case.model, case.tokens, lengths)
    assert distance(found, case.logits) < TOLERANCE
    assert distance(found[POSITIONS], REFERENCE[f"{case.name}.logits"]) < TOLERANCE


def test_token_by_token_gives_the_logits_of_one_piece(case: Case) -> None:
    assert distance(in_pieces(case.model, case.tokens[:135], [1] * 135), case.logits[:135]) < TOLERANCE


def test_token_by_token_after_a_long_prompt_gives_the_logits_of_one_piece(case: Case) -> None:
    assert distance(in_pieces(case.model, case.tokens, [250, *[1] * 50]), case.logits) < TOLERANCE


@pytest.mark.parametrize("prompt", range(len(GREEDY_PROMPTS)), ids=lambda prompt: f"{GREEDY_PROMPTS[prompt]} tokens")
def test_the_greedy_answer_is_the_reference_s(case: Case, prompt: int) -> None:
    caches, inputs, found = case.model.make_cache(), case.tokens[: GREEDY_PROMPTS[prompt]], []
    for _ in range(GREEDY_TOKENS):
        inputs = feed(case.model, inputs, caches)[-1:].argmax(-1).astype(np.int32)
        found.append(int(inputs[0]))
    assert found == REFERENCE[f"{case.name}.greedy"][prompt].tolist()


def test_a_call_without_a_cache_is_a_call_with_an_empty_one(full: Case) -> None:
    tokens = np.stack([full.tokens[:9], full.tokens[9:18]])
    alone = [feed(full.model, row, full.model.make_cache()) for row in tokens]
    assert distance(np.array(full.model(mx.array(tokens))), np.stack(alone)) < TOLERANCE


def test_the_reference_reaches_to_where_the_tests_look() -> None:
    assert max(POSITIONS) == LENGTH - 1
