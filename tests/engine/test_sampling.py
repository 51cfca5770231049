"""The sampler against a plain reading of its definition."""

from __future__ import annotations

import math
from collections import Counter

import mlx.core as mx
import pytest

from omlx.server.engine import sampling
from omlx.server.engine.batch import NOT_A_NUMBER
from omlx.server.engine.sampling import RowSampler
from omlx.server.requests import SamplingParams

LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0, -3.0]


def sample(logits: mx.array, rows: list[RowSampler]) -> list[int]:
    """One step of every row, as the batch takes it."""
    chosen = sampling.sample(logits, rows)
    for sampler, token_id in zip(rows, chosen, strict=True):
        sampler.observe(token_id)
    return chosen


def row(entropy: int = 1, prompt: tuple[int, ...] = (), **params) -> RowSampler:
    return RowSampler.create(SamplingParams(**params), prompt, entropy)


def frequencies(sampler: RowSampler, logits: list[float], draws: int = 3000) -> dict[int, float]:
    counts = Counter(sample(mx.array([logits]), [sampler])[0] for _ in range(draws))
    return {token: count / draws for token, count in counts.items()}


def expected(logits: list[float], temperature: float, kept: list[int]) -> dict[int, float]:
    weights = {token: math.exp(logits[token] / temperature) for token in kept}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"temperature": 1.0}, [0, 1, 2, 3, 4, 5]),
        ({"temperature": 0.5}, [0, 1, 2, 3, 4, 5]),
        ({"temperature": 1.0, "top_k": 2}, [0, 1]),
        ({"temperature": 1.0, "top_k": 100}, [0, 1, 2, 3, 4, 5]),
        ({"temperature": 1.0, "top_p": 0.75}, [0, 1]),
        ({"temperature": 1.0, "top_p": 0.85}, [0, 1, 2]),
        ({"temperature": 1.0, "top_p": 0.0}, [0]),
        ({"temperature": 1.0, "min_p": 0.2}, [0, 1, 2]),
        ({"temperature": 1.0, "top_k": 4, "top_p": 0.5}, [0]),
    ],
)
def test_draws_follow_the_distribution_the_parameters_keep(params, kept):
    measured = frequencies(row(**params), LOGITS)
    wanted = expected(LOGITS, params["temperature"], kept)
    assert set(measured) <= set(wanted)
    for token, probability in wanted.items():
        assert measured.get(token, 0) == pytest.approx(probability, abs=0.04)


def test_temperature_zero_takes_the_likeliest():
    assert sample(mx.array([LOGITS]), [row(temperature=0)]) == [0]


def test_each_row_keeps_to_its_own_parameters():
    rows = [row(temperature=0), row(temperature=1.0, top_k=1), row(temperature=1.0, logit_bias=((5, 100.0),))]
    assert sample(mx.array([LOGITS] * 3), rows) == [0, 0, 5]


@pytest.mark.parametrize("vocabulary", [2000, 6000])
def test_a_wide_nucleus_over_a_large_vocabulary_is_exact(vocabulary: int):
    """A flat distribution needs more than the sorted head."""
    logits = [0.0] * 1000 + [-20.0] * (vocabulary - 1000)
    sampler = row(temperature=1.0, top_p=0.9)
    drawn = [sample(mx.array([logits]), [sampler])[0] for _ in range(200)]
    assert max(drawn) < 1000
    assert len(set(drawn)) > 150


@pytest.mark.parametrize(("vocabulary", "spread"), [(2000, 3), (6000, 3), (6000, 1)])
def test_a_choice_that_may_not_wait_is_the_same_choice(vocabulary: int, spread: int):
    mx.random.seed(3)
    logits = spread * mx.random.normal((40, vocabulary))
    kinds = [{"top_p": 0.9}, {"top_k": 7}, {"top_p": 0.5, "top_k": 400}, {"top_p": 0.95, "min_p": 0.01}]
    params = [kinds[number % 4] for number in range(40)]
    rows, again = ([row(seed=number, **kind) for number, kind in enumerate(params)] for _ in range(2))
    assert sampling.choose(logits, rows, may_wait=False).tolist() == sampling.sample(logits, again)


def test_a_seed_decides_every_draw_whatever_the_neighbours():
    alone = row(temperature=1.0, seed=5)
    drawn = [sample(mx.array([LOGITS]), [alone])[0] for _ in range(20)]
    crowded, others = row(temperature=1.0, seed=5), [row(2, temperature=1.5), row(3, temperature=0.7, top_p=0.5)]
    assert [sample(mx.array([LOGITS] * 3), [others[0], crowded, others[1]])[1] for _ in range(20)] == drawn


def test_without_a_seed_two_rows_draw_apart():
    first, second = row(1, temperature=1.0), row(2, temperature=1.0)
    pairs = [sample(mx.array([LOGITS] * 2), [first, second]) for _ in range(50)]
    assert any(a != b for a, b in pairs)


def test_repetition_penalises_prompt_and_answer_by_sign():
    sampler = row(prompt=(0, 4), temperature=0, repetition_penalty=5.0)
    assert sample(mx.array([LOGITS]), [sampler]) == [1]  # 2.0 / 5 is below 1.0
    assert sample(mx.array([LOGITS]), [sampler]) == [2]  # now 1 is penalised as well


def test_presence_counts_once_and_frequency_every_time_and_neither_the_prompt():
    presence = row(prompt=(0,), temperature=0, presence_penalty=1.5)
    assert [sample(mx.array([LOGITS]), [presence])[0] for _ in range(3)] == [0, 1, 0]
    frequency = row(temperature=0, frequency_penalty=0.6)
    assert [sample(mx.array([LOGITS]), [frequency])[0] for _ in range(4)] == [0, 0, 1, 0]


def test_half_precision_logits_are_drawn_in_full_precision():
    sampler = row(temperature=1.0, top_p=0.9)
    token = sample(mx.array([LOGITS], dtype=mx.bfloat16), [sampler])[0]
    assert token in (0, 1, 2, 3)


@pytest.mark.parametrize(
    "params", [{"temperature": 0}, {"temperature": 1.0}, {"top_k": 2}, {"top_p": 0.5, "min_p": 0.1}]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize("may_wait", [False, True])
def test_one_logit_that_is_no_number_or_overflows_leaves_nothing_to_choose(
    params, bad: float, place: int, may_wait: bool
):
    logits = mx.array([LOGITS, LOGITS], dtype=mx.float16)
    logits[0, place] = bad
    chosen = sampling.choose(logits, [row(**params), row(temperature=0)], may_wait).tolist()
    assert chosen == [NOT_A_NUMBER, 0]


def test_what_no_row_may_take_overflows_nothing():
    logits = mx.array([[-math.inf, 1.0, -math.inf, -math.inf]])
    assert sampling.choose(logits, [row(temperature=1.0)]).tolist() == [1]
