"""DeepSeek V4 in the engine: rows decoded together, and prefixes reused from RAM, from disk, and after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.models.architectures.deepseek_v4 import Model

from ...engine.driving import drain, make_engine
from ...engine.tiny_model import VOCABULARY, make_batch, prompt_of, submit
from .deepseek_v4_model import build
from .random_deepseek_v4 import CONFIGS

LENGTHS = (127, 129, 256, 257, 260, 385)
"""Around multiples of 4, of 128, and of the blocks of 256 the prefix cache is cut in."""


@pytest.fixture(scope="module")
def model() -> Model:
    return build(CONFIGS["full"] | {"vocab_size": VOCABULARY, "num_hidden_layers": 3})


def _batch(model: Model, disk: Path | None = None) -> MlxBatch:
    return make_batch(model, choose_layout(model, model.make_cache).layout, disk=disk)


def _answers(batch: MlxBatch, length: int, requests: int = 1) -> list[tuple[list[int], int]]:
    """What requests for the same prompt, one after the other, are answered, and how much of it was cached."""
    found = []
    for number in range(requests):
        engine = make_engine(batch)
        engine.submit(submit(f"{length}-{number}", prompt_of(length), max_tokens=6))
        answer = drain(engine)[f"{length}-{number}"]
        found.append((answer.token_ids, max(update.num_cached_tokens for update in answer.updates)))
    return found


def test_rows_of_different_length_decode_in_one_batch(model: Model) -> None:
    assert choose_layout(model, model.make_cache).batching.name == "padded"


def test_warm_answers_are_the_cold_ones(model: Model, tmp_path: Path) -> None:
    first = _batch(model, tmp_path)
    cold, in_ram = {}, {}
    for length in LENGTHS:
        cold[length], in_ram[length] = _answers(first, length, requests=2)
    while first.idle():
        pass
    first.close()
    restarted = _batch(model, tmp_path)
    for length in LENGTHS:
        ((on_disk, cached),) = _answers(restarted, length)
        assert in_ram[length][0] == cold[length][0] == on_disk, f"at {length}"
        if length > 256:
            assert in_ram[length][1] >= 256
            assert cached >= 256
    restarted.close()
