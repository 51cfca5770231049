"""The configurations of the reference, each with our model and all its logits in one piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from omlx.server.models.architectures.deepseek_v4 import Model

from .deepseek_v4_model import build, in_pieces
from .random_deepseek_v4 import CONFIGS, LENGTH, random_tokens


@dataclass(frozen=True, slots=True)
class Case:
    """`logits` [LENGTH, vocabulary] are our model's own, from one pass over `tokens`."""

    name: str
    config: dict[str, Any]
    model: Model
    tokens: np.ndarray
    logits: np.ndarray


def _case(name: str) -> Case:
    config = CONFIGS[name]
    model, tokens = build(config), random_tokens(config)
    return Case(name, config, model, tokens, in_pieces(model, tokens, [LENGTH]))


@pytest.fixture(scope="session", params=CONFIGS)
def case(request: pytest.FixtureRequest) -> Case:
    return _case(request.param)


@pytest.fixture(scope="session")
def full() -> Case:
    """The configuration with every feature on."""
    return _case("full")
