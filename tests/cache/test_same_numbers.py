"""The logits that an engine computes after a restored prefix are those it computes cold: bit for bit where the prefix
was computed on the grid, else within rounding."""

from __future__ import annotations

from pathlib import Path

import mlx.nn as nn
import pytest
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.messages import SequenceUpdate, Submit
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.scheduler import SchedulerLimits

from ..engine.driving import drain, make_engine
from ..engine.tiny_model import GREEDY, VOCABULARY, make_batch, prompt_of
from .models import MODELS

PROMPT = prompt_of(600)
ROOM = 1 << 26
GRID, SMALL_PIECES = SchedulerLimits(max_chunk=256), SchedulerLimits(grid=32, max_chunk=32)


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> nn.Module:
    return MODELS[request.param]()


def batch_of(model: nn.Module, max_bytes: int = ROOM, disk: Path | None = None) -> MlxBatch:
    return make_batch(model, choose_layout(model, lambda: make_prompt_cache(model)).layout, max_bytes, disk)


def ask(
    batch: MlxBatch, prompt: list[int], limits: SchedulerLimits = GRID, count: int = 1
) -> tuple[dict[int, float], list[int], SequenceUpdate]:
    """The log probabilities of every token after the prompt, what was written, and the last news of it."""
    engine = make_engine(batch, limits)
    engine.submit(Submit("r", prompt, count, sampling=GREEDY, logprobs=VOCABULARY))
    answer = drain(engine)["r"]
    return (
        dict(next(token.top for update in answer.updates for token in update.logprobs)),
        answer.token_ids,
        answer.last,
    )


def cold(model: nn.Module, prompt: list[int]) -> dict[int, float]:
    logprobs, _, last = ask(batch_of(model, max_bytes=0), prompt)
    assert last.num_cached_tokens == 0
    assert len(logprobs) == VOCABULARY
    return logprobs


def error(found: dict[int, float], expected: dict[int, float]) -> float:
    return max(abs(found[token_id] - expected[token_id]) for token_id in range(VOCABULARY))


def test_on_the_grid_the_bits_are_the_same_from_memory_after_a_restart_and_from_disk(model: nn.Module, tmp_path: Path):
    # Each goes on from the same 512 tokens in its own way, so that no more is cached, and not for long enough that a
    # recurrent state forgets them.
    memory, restart, disk = ([*PROMPT[:512], *prompt_of(3, seed)] for seed in (4, 5, 6))
    batch = batch_of(model, disk=tmp_path)
    ask(batch, PROMPT)
    found, _, last = ask(batch, memory)
    assert (last.num_cached_tokens, last.num_disk_tokens) == (512, 0)
    assert found == cold(model, memory)
    batch.close()
    batch = batch_of(model, disk=tmp_path)
    found, _, last = ask(batch, restart)
    assert (last.num_cached_tokens, last.num_disk_tokens) == (512, 512)
    assert found == cold(model, restart)
    batch.bound_prefixes(0)
    batch.bound_prefixes(ROOM)
    found, _, last = ask(batch, disk)
    assert last.num_cached_tokens == 512
    assert last.num_disk_tokens >= 256  # a block without rows or a state takes no memory, and stays
    assert found == cold(model, disk)
    batch.close()


def test_computed_in_small_pieces_it_is_the_same_within_rounding(model: nn.Module):
    batch = batch_of(model)
    ask(batch, PROMPT, SMALL_PIECES)
    prompt = [*PROMPT[:512], *prompt_of(3, 4)]
    found, _, last = ask(batch, prompt)
    assert last.num_cached_tokens == 512
    assert error(found, cold(model, prompt)) <= 1e-4


def test_filled_by_decoding_it_is_the_same_within_rounding(model: nn.Module):
    batch = batch_of(model)
    _, written, _ = ask(batch, PROMPT[:250], count=20)
    prompt = [*PROMPT[:250], *written, *prompt_of(3, 4)]
    found, _, last = ask(batch, prompt)
    assert last.num_cached_tokens == 269
    assert error(found, cold(model, prompt)) <= 1e-4
