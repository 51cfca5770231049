"""Models whose caches cannot simply be cut: drafts are taken back row by row, and no answer changes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models.cache import ArraysCache, ChunkedKVCache, KVCache, RotatingKVCache, make_prompt_cache

from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.rewinding_layout import RewindingLayout, can_rewind
from omlx.server.engine.scheduler import SchedulerLimits

from ..cache.models import MODELS
from .driving import Answer, drain, make_engine, step
from .test_leaving import Leaving, with_states
from .tiny_model import VOCABULARY, greedy_solo, make_batch, prompt_of, submit

KINDS = ("hybrid", "Qwen3.5 hybrid", "DeepSeek V4", "MLA", "sliding window", "lists of caches")


class LuckyDrafter:
    """Knows the answers, and is wrong now and then, at any place of its guess."""

    name = "lucky"

    def __init__(self, answers: Mapping[str, Sequence[int]]) -> None:
        self._answers = answers
        self._random = random.Random(5)
        self._tokens: dict[str, Sequence[int]] = {}
        self._prompts: dict[str, int] = {}

    def join(self, key: str, token_ids: Sequence[int]) -> None:
        self._tokens[key], self._prompts[key] = token_ids, len(token_ids) - 1

    def observe(self, key: str, hidden: Any) -> None:
        pass

    def draft(self, limits: Mapping[str, int]) -> dict[str, list[int]]:
        return {key: self._guess(key, limit) for key, limit in limits.items()}

    def leave(self, key: str) -> None:
        self._tokens.pop(key, None)

    def check(self) -> None:
        assert not self._tokens

    def _guess(self, key: str, limit: int) -> list[int]:
        start = len(self._tokens[key]) - self._prompts[key]
        guess = list(self._answers[key][start : start + min(limit, self._random.randint(1, 6))])
        if guess and self._random.random() < 0.4:
            guess[self._random.randrange(len(guess))] = self._random.randrange(VOCABULARY)
        return guess


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return MODELS[request.param]()


def test_its_kind_gets_the_layout(model: nn.Module) -> None:
    choice = choose_layout(model, lambda: make_prompt_cache(model))
    assert isinstance(choice.layout, RewindingLayout)
    assert choice.batching.drafting == "all"


def test_a_window_beside_states_that_are_put_back_cannot_be_rewound() -> None:
    assert can_rewind([KVCache(), RotatingKVCache(16)])
    assert not can_rewind([ArraysCache(2), RotatingKVCache(16)])
    assert not can_rewind([ChunkedKVCache(16)])


def test_rows_that_join_and_leave_with_good_and_bad_drafts_write_what_they_write_alone(model: nn.Module) -> None:
    lengths = (3, 127, 40, 131, 17)
    wanted = {f"r{n}": (prompt_of(length, n), 30 + 3 * n) for n, length in enumerate(lengths)}
    expected = {name: greedy_solo(model, prompt, count) for name, (prompt, count) in wanted.items()}
    batch = make_batch(model, RewindingLayout(model), drafters=[LuckyDrafter(expected)])
    engine = make_engine(batch, SchedulerLimits(max_num_seqs=3, max_chunk=256))
    answers: dict[str, Answer] = {}
    for name, (prompt, count) in wanted.items():
        engine.submit(submit(name, prompt, count))
        step(engine, answers)
        step(engine, answers)
    drain(engine, answers)
    assert {name: answer.token_ids for name, answer in answers.items()} == expected
    assert batch.drafts[0].num_accepted > 30


def test_what_a_drafted_row_leaves_in_the_cache_is_right(model: nn.Module) -> None:
    prompt = prompt_of(140)
    expected = {"one": greedy_solo(model, prompt, 41)}
    batch = make_batch(model, RewindingLayout(model), drafters=[LuckyDrafter(expected)])
    engine, answers = make_engine(batch), {}
    engine.submit(submit("one", prompt, 41))
    drain(engine, answers)
    turn = [*prompt, *answers["one"].token_ids, *prompt_of(9, 8)]
    expected["two"] = greedy_solo(model, turn, 12)
    engine.submit(submit("two", turn, 12))
    drain(engine, answers)
    assert answers["two"].last.num_cached_tokens >= 140
    assert answers["two"].token_ids == expected["two"]


def test_a_row_taken_out_after_a_wrong_draft_stands_where_it_should(model: nn.Module) -> None:
    layout, prompt = RewindingLayout(model), prompt_of(70)
    caches = make_prompt_cache(model)
    model(mx.array([prompt]), cache=caches)
    layout.join(caches)
    layout.forward([[1, 2, 3, 4]])
    layout.accept([2])
    alone = make_prompt_cache(model)
    expected = model(mx.array([[*prompt, 1, 2, 9]]), cache=alone)[0, -1]
    found = model(mx.array([[9]]), cache=layout.extract(0))[0, -1]
    assert float(mx.abs(expected - found).max()) < 1e-4
    assert float(mx.abs(expected - layout.forward([[9]])[0, -1]).max()) < 1e-4


def test_the_states_of_a_prompt_outlast_a_row_freed_amid_it_that_owes_tokens() -> None:
    model, seen = MODELS["Qwen3.5 hybrid"](), dict[str, mx.array]()

    class Wrong(LuckyDrafter):
        def observe(self, key: str, hidden: Any) -> None:
            seen.setdefault(key, hidden[0, -1])

        def draft(self, limits: Mapping[str, int]) -> dict[str, list[int]]:
            return {key: [(self._tokens[key][-1] + 1) % VOCABULARY] for key in limits if limits[key] and key == "left"}

    run, leaving, short = with_states(model), Leaving("left", 1000), prompt_of(50, 2)
    layout = RewindingLayout(run)
    batch = make_batch(model, layout, run=run, drafters=[Wrong({})])
    engine, answers = make_engine(batch, cancelled=leaving), {}
    engine.submit(submit("left", prompt_of(40), 60))
    while not any(layout._owed):
        step(engine, answers)
    engine.submit(submit("short", short))
    leaving.count = 1
    step(engine, answers)
    assert leaving.has_left
    assert float(mx.abs(seen["short"] - 2 * model(mx.array([short]))[0, -1]).max()) < 1e-4
    assert drain(engine, answers)["short"].token_ids == greedy_solo(model, short, 8)
