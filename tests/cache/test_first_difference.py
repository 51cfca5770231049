"""A request is told the first token that differs from all that is cached, and why no more was; after a restart too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.nn as nn
import pytest
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.cache.prefix_cache import Miss
from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.messages import Submit
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.scheduler import SchedulerLimits

from ..engine.driving import Answer, drain, make_engine
from ..engine.tiny_model import GREEDY, VOCABULARY, greedy_solo, make_batch, prompt_of
from .models import MODELS

CACHED = prompt_of(700)
GRID = SchedulerLimits(max_chunk=256)
PLACES = ("memory", "restart")


def parting(at: int) -> list[int]:
    """The cached prompt up to the token `at`, and 60 others."""
    return [*CACHED[:at], *((token + 1) % VOCABULARY for token in CACHED[at : at + 60])]


def ask(batch: MlxBatch, prompt: list[int], salt: str = "", max_tokens: int = 4) -> Answer:
    engine = make_engine(batch, GRID)
    engine.submit(Submit("r", prompt, max_tokens, sampling=GREEDY, cache_salt=salt))
    return drain(engine)["r"]


def reported(answer: Answer) -> tuple[int, Miss, int]:
    """Cached tokens, why no more, and the first that differs."""
    update = next(update for update in answer.updates if update.miss)
    return answer.last.num_cached_tokens, Miss(update.miss), update.miss_token


def start(kind: str, disk: Path) -> tuple[nn.Module, MlxBatch]:
    model = MODELS[kind]()
    return model, make_batch(model, choose_layout(model, lambda: make_prompt_cache(model)).layout, disk=disk)


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[nn.Module, MlxBatch]]:
    """A model that has answered `CACHED`, here or before it was started again."""
    kind, place = request.param
    model, batch = start(kind, tmp_path)
    ask(batch, CACHED, max_tokens=1)
    if place == "restart":
        batch.close()
        model, batch = start(kind, tmp_path)
    yield model, batch
    batch.close()


def table(*rows: tuple[str, int, int, Miss]) -> list:
    return [((kind, place), *rest) for kind, *rest in rows for place in PLACES]


@pytest.mark.parametrize(
    ("server", "at", "cached", "miss"),
    table(
        ("full attention", 590, 590, Miss.DIFFERS),
        ("full attention", 300, 300, Miss.DIFFERS),
        ("MLA", 590, 590, Miss.DIFFERS),
        ("hybrid", 590, 512, Miss.NOT_RESUMABLE),
        ("hybrid", 300, 0, Miss.NOT_RESUMABLE),
        ("sliding window", 590, 512, Miss.NOT_RESUMABLE),
        ("sliding window", 300, 0, Miss.NOT_RESUMABLE),
        *((kind, 512, 512, Miss.DIFFERS) for kind in ("full attention", "hybrid", "sliding window")),
        *((kind, 0, 0, Miss.DIFFERS) for kind in ("full attention", "hybrid", "sliding window")),
    ),
    indirect=["server"],
)
def test_the_first_differing_token_is_told_and_all_before_it_are_used_where_the_layers_can(
    server: tuple[nn.Module, MlxBatch], at: int, cached: int, miss: Miss
):
    model, batch = server
    prompt = parting(at)
    answer = ask(batch, prompt)
    assert reported(answer) == (cached, miss, at)
    assert answer.token_ids == greedy_solo(model, prompt, 4)


@pytest.mark.parametrize("server", [(kind, place) for kind in MODELS for place in PLACES], indirect=True)
def test_a_prompt_that_goes_on_after_a_cached_one_parts_from_it_at_its_end(server: tuple[nn.Module, MlxBatch]):
    _, batch = server
    assert reported(ask(batch, [*CACHED, *CACHED[:40]])) == (700, Miss.LONGER, 700)


@pytest.mark.parametrize("length", [590, 512, 511, 300, 2])
@pytest.mark.parametrize("server", [("full attention", place) for place in PLACES], indirect=True)
def test_the_beginning_of_a_cached_prompt_is_found_but_for_one_token(server: tuple[nn.Module, MlxBatch], length: int):
    model, batch = server
    answer = ask(batch, CACHED[:length])
    assert answer.last.num_cached_tokens == length - 1
    assert answer.token_ids == greedy_solo(model, CACHED[:length], 4)


@pytest.mark.parametrize(
    "server", [(kind, place) for kind in ("full attention", "hybrid") for place in PLACES], indirect=True
)
@pytest.mark.parametrize("at", [590, 300, 700])
def test_another_key_is_told_nothing_of_what_is_cached(server: tuple[nn.Module, MlxBatch], at: int):
    _, batch = server
    assert reported(ask(batch, parting(at), "another key")) == (0, Miss.EMPTY, 0)
