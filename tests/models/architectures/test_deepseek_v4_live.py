"""DeepSeek V4 beside transformers itself, on weights and prompts the kept reference does not have.

Runs where torch and transformers are installed; they are no dependencies of omlx.
"""

from __future__ import annotations

import numpy as np
import pytest

from .deepseek_v4_model import TOLERANCE, build, distance, feed, in_pieces
from .random_deepseek_v4 import CONFIGS, LONG, LONG_CONFIGS, digest, random_tokens, random_weights

pytest.importorskip("torch", reason="compares with transformers in torch: pip install torch transformers")
pytest.importorskip("transformers", reason="compares with transformers in torch: pip install torch transformers")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", LONG_CONFIGS)
def test_a_prompt_of_4100_tokens_gives_transformers_logits(name: str) -> None:
    from .deepseek_v4_torch import TorchModel

    config = LONG_CONFIGS[name]
    tokens = random_tokens(config, LONG)
    expected = TorchModel(config).logits(tokens)
    found = in_pieces(build(config), tokens, [1024, 1, 999, 2000, 76])
    assert distance(found, expected) < TOLERANCE


@pytest.mark.parametrize("seed", [1, 2])
def test_other_weights_give_transformers_logits(seed: int) -> None:
    from .deepseek_v4_torch import TorchModel

    config = CONFIGS["full"] | {"vocab_size": 96 + seed, "hidden_size": 32 + 8 * seed, "index_topk": 4 + seed}
    tokens = random_tokens(config, 300)
    expected = TorchModel(config).logits(tokens)
    model = build(config)
    assert digest(random_weights(config)) != digest(random_weights(CONFIGS["full"]))
    for length in (1, 64, 127, 128, 129, 130, 300):
        assert distance(in_pieces(model, tokens[:length], [length]), expected[:length]) < TOLERANCE
    assert distance(in_pieces(model, tokens, [100, *[1] * 40, 160]), expected) < TOLERANCE


def test_greedy_answers_are_transformers_for_64_tokens() -> None:
    from .deepseek_v4_torch import TorchModel

    config = CONFIGS["full"] | {"vocab_size": 131}
    tokens = random_tokens(config, 64)
    model, inputs, found = build(config), tokens, []
    caches = model.make_cache()
    for _ in range(64):
        inputs = feed(model, inputs, caches)[-1:].argmax(-1).astype(np.int32)
        found.append(int(inputs[0]))
    assert found == TorchModel(config).greedy(tokens, 64)
