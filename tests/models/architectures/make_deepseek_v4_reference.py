"""Writes deepseek_v4_reference.npz, what the parity tests compare with. Run it where torch and transformers are:

python -m tests.models.architectures.make_deepseek_v4_reference
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .deepseek_v4_torch import TorchModel
from .random_deepseek_v4 import (
    CONFIGS,
    GREEDY_PROMPTS,
    GREEDY_TOKENS,
    LONG,
    LONG_CONFIGS,
    LONG_POSITIONS,
    POSITIONS,
    digest,
    random_tokens,
    random_weights,
)

REFERENCE = Path(__file__).with_name("deepseek_v4_reference.npz")


def main() -> None:
    found: dict[str, np.ndarray] = {}
    for name, config in CONFIGS.items():
        model, tokens = TorchModel(config), random_tokens(config)
        found[f"{name}.digest"] = np.array(digest(random_weights(config)))
        found[f"{name}.logits"] = model.logits(tokens)[POSITIONS]
        greedy = [model.greedy(tokens[:length], GREEDY_TOKENS) for length in GREEDY_PROMPTS]
        found[f"{name}.greedy"] = np.array(greedy, dtype=np.int32)
    for name, config in LONG_CONFIGS.items():
        model, tokens = TorchModel(config), random_tokens(config, LONG)
        found[f"{name}.digest"] = np.array(digest(random_weights(config)))
        found[f"{name}.logits"] = model.logits(tokens)[LONG_POSITIONS]
        found[f"{name}.greedy"] = np.array(model.greedy(tokens, GREEDY_TOKENS), dtype=np.int32)
    np.savez_compressed(REFERENCE, allow_pickle=False, **found)


if __name__ == "__main__":
    main()
