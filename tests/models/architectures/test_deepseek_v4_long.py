"""DeepSeek V4 against transformers after thousands of tokens: pools longer than what a query may read of them.

The logits and greedy answers are kept in deepseek_v4_reference.npz.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .deepseek_v4_model import TOLERANCE, build, distance, feed, in_pieces
from .random_deepseek_v4 import (
    GREEDY_TOKENS,
    LONG,
    LONG_CONFIGS,
    LONG_POSITIONS,
    digest,
    random_tokens,
    random_weights,
)

REFERENCE = np.load(Path(__file__).with_name("deepseek_v4_reference.npz"))
PIECES = {
    "one piece": [LONG],
    "chunks that end on blocks": [1024, 1024, 1024, 1024, 4],
    "chunks of all sizes": [1023, 1, 1000, 2000, 76],
    "token by token at the end": [4026, *[1] * 74],
}
CASES = [
    *(("long full, top 8", pieces) for pieces in PIECES),
    ("long full, top 2048", "one piece"),
    ("long short_window, top 8", "chunks of all sizes"),
]


@pytest.mark.parametrize(("name", "pieces"), CASES)
def test_4100_tokens_give_the_reference_logits(name: str, pieces: str) -> None:
    config = LONG_CONFIGS[name]
    found = in_pieces(build(config), random_tokens(config, LONG), PIECES[pieces])
    assert distance(found[LONG_POSITIONS], REFERENCE[f"{name}.logits"]) < TOLERANCE


@pytest.mark.parametrize("name", LONG_CONFIGS)
def test_the_reference_was_made_of_the_weights_the_tests_make(name: str) -> None:
    assert str(REFERENCE[f"{name}.digest"]) == digest(random_weights(LONG_CONFIGS[name]))


@pytest.mark.parametrize("name", ["long full, top 8", "long short_window, top 8"])
def test_the_greedy_answer_to_4100_tokens_is_the_reference_s(name: str) -> None:
    config, found = LONG_CONFIGS[name], list[int]()
    model, inputs = build(config), random_tokens(config, LONG)
    caches = model.make_cache()
    for _ in range(GREEDY_TOKENS):
        inputs = feed(model, inputs, caches)[-1:].argmax(-1).astype(np.int32)
        found.append(int(inputs[0]))
    assert found == REFERENCE[f"{name}.greedy"].tolist()
