"""Tiny real models through the engine: what a request gets never depends on the others or on the cache."""

from __future__ import annotations

import random

import mlx.core as mx
import mlx.nn as nn
import pytest

from omlx.server.engine import paged_layout
from omlx.server.engine.decode_layout import PaddedLayout, SerialLayout
from omlx.server.engine.messages import Submit
from omlx.server.engine.paged_layout import PagedLayout
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.engine.slot_layout import SlotLayout
from omlx.server.requests import SamplingParams

from .driving import drain, make_engine, step
from .reference_pages import ReferencePageAttention
from .tiny_model import GREEDY, VOCABULARY, greedy_solo, make_batch, prompt_of, submit, tiny_llama


def paged(model: nn.Module) -> PagedLayout:
    return PagedLayout(model, ReferencePageAttention())


def closely_paged(model: nn.Module) -> PagedLayout:
    return PagedLayout(model, ReferencePageAttention(), spare_tokens=1)


def some_alone(model: nn.Module) -> SlotLayout:
    """Rows of more than 270 tokens have a group to themselves, others when they have grown so long."""
    return SlotLayout(model, large_tokens=270)


SAMPLED = SamplingParams(temperature=0.8, top_p=0.9, seed=11)


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.mark.parametrize(
    ("layout", "runs_ahead"),
    [
        (PaddedLayout, True),
        (SerialLayout, False),
        (SlotLayout, False),
        (SlotLayout, True),
        (some_alone, False),
        (some_alone, True),
        (paged, False),
        (paged, True),
        (closely_paged, False),
        (closely_paged, True),
    ],
)
def test_rows_in_a_batch_write_what_they_write_alone(model, layout, runs_ahead, monkeypatch):
    """Requests join, grow, finish and are cancelled at random; the others never notice."""
    monkeypatch.setattr(paged_layout, "_FIRST_PAGES", 4)
    dice = random.Random(3)
    batch = make_batch(model, layout(model), runs_ahead=runs_ahead)
    engine = make_engine(batch, SchedulerLimits(max_num_seqs=4, max_chunk=256))
    wanted, answers = {}, {}
    for number in range(16):
        length = dice.choice([1, 2, 30, 60, 250, 255, 256, 260, 510, 700])
        name, prompt, count = f"r{number}", prompt_of(length, number), dice.randrange(1, 12)
        engine.submit(submit(name, prompt, count))
        wanted[name] = (prompt, count)
        for _ in range(dice.randrange(4)):
            step(engine, answers)
        if number % 5 == 4:
            engine.cancel(name)
            del wanted[name]
    drain(engine, answers)
    for name, (prompt, count) in wanted.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, count), name


def test_a_long_prompt_in_chunks_gives_what_one_pass_gives(model):
    engine = make_engine(make_batch(model), SchedulerLimits(max_chunk=256))
    prompt = prompt_of(700)
    engine.submit(submit("a", prompt))
    assert drain(engine)["a"].token_ids == greedy_solo(model, prompt, 8)


def test_a_cached_prompt_gives_the_same_answer_and_one_token_is_computed(model):
    engine = make_engine(make_batch(model), SchedulerLimits(max_chunk=256))
    prompt = prompt_of(600)
    engine.submit(submit("cold", prompt))
    cold = drain(engine)["cold"]
    engine.submit(submit("warm", prompt))
    warm = drain(engine)["warm"]
    assert warm.token_ids == cold.token_ids
    assert (cold.last.num_cached_tokens, warm.last.num_cached_tokens) == (0, 599)


def test_prompt_then_prompt_with_its_answer_then_the_same_again(model):
    engine = make_engine(make_batch(model), SchedulerLimits(max_chunk=256))
    prompt = prompt_of(300)
    answers = {}
    engine.submit(submit("first", prompt))
    drain(engine, answers)
    longer = prompt + answers["first"].token_ids
    for name in ("second", "third"):
        engine.submit(submit(name, longer))
        drain(engine, answers)
        assert answers[name].token_ids == greedy_solo(model, longer, 8)
        assert answers[name].last.num_cached_tokens == len(longer) - 1


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_the_next_turn_reuses_the_answer_to_the_token(model, runs_ahead):
    engine = make_engine(make_batch(model, runs_ahead=runs_ahead), SchedulerLimits(max_chunk=256))
    answers = {}
    engine.submit(submit("first", prompt_of(100), 20))
    drain(engine, answers)
    next_turn = prompt_of(100) + answers["first"].token_ids + prompt_of(30, seed=5)
    engine.submit(submit("next", next_turn))
    drain(engine, answers)
    assert answers["next"].last.num_cached_tokens == 119  # the answer's last token was never fed
    assert answers["next"].token_ids == greedy_solo(model, next_turn, 8)


def test_a_prompt_that_leaves_a_cached_one_in_the_middle_of_a_block_reuses_what_is_common(model):
    engine = make_engine(make_batch(model), SchedulerLimits(max_chunk=256))
    prompt = prompt_of(500)
    engine.submit(submit("first", prompt))
    drain(engine)
    branch = [*prompt[:400], *prompt_of(40, seed=9)]
    engine.submit(submit("branch", branch))
    answer = drain(engine)["branch"]
    assert answer.last.num_cached_tokens == 400
    assert answer.token_ids == greedy_solo(model, branch, 8)


def test_a_cancelled_prefill_leaves_its_finished_chunks_behind(model):
    engine = make_engine(make_batch(model), SchedulerLimits(max_chunk=256))
    prompt = prompt_of(800)
    engine.submit(submit("gone", prompt))
    engine.step()
    engine.step()
    engine.cancel("gone")
    engine.submit(submit("again", prompt))
    answer = drain(engine)["again"]
    assert answer.last.num_cached_tokens == 512
    assert answer.token_ids == greedy_solo(model, prompt, 8)


def test_a_prefix_two_requests_share_is_computed_once(model):
    engine = make_engine(make_batch(model), SchedulerLimits(max_chunk=256))
    prefix, answers = prompt_of(1000), {}
    prompts = {name: [*prefix, *prompt_of(20 + len(name), seed=len(name))] for name in ("a", "bb", "ccc")}
    for name, prompt in prompts.items():
        engine.submit(submit(name, prompt))
    drain(engine, answers)
    assert sorted(answer.last.num_cached_tokens for answer in answers.values()) == [0, 1000, 1000]
    for name, prompt in prompts.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, 8)


def test_another_salt_shares_nothing(model):
    engine = make_engine(make_batch(model))
    engine.submit(submit("mine", prompt_of(300)))
    drain(engine)
    engine.submit(Submit("theirs", prompt_of(300), 8, sampling=GREEDY, cache_salt="another key"))
    assert drain(engine)["theirs"].last.num_cached_tokens == 0


def test_a_cache_without_room_changes_nothing_but_speed(model):
    engine = make_engine(make_batch(model, max_bytes=0))
    for name in ("first", "second"):
        engine.submit(submit(name, prompt_of(300)))
        answer = drain(engine)[name]
        assert answer.token_ids == greedy_solo(model, prompt_of(300), 8)
        assert answer.last.num_cached_tokens == 0


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_a_seed_gives_the_same_answer_alone_and_in_any_batch(model, runs_ahead):
    alone = make_engine(make_batch(model))
    alone.submit(submit("a", prompt_of(50), 12, SAMPLED))
    expected = drain(alone)["a"].token_ids
    crowd = make_engine(make_batch(model, runs_ahead=runs_ahead))
    for number in range(5):
        crowd.submit(submit(f"r{number}", prompt_of(20 + number, number), 12, SamplingParams(temperature=1.3)))
    crowd.submit(submit("a", prompt_of(50), 12, SAMPLED))
    crowd.submit(submit("greedy", prompt_of(40), 12))
    answers = drain(crowd)
    assert answers["a"].token_ids == expected
    assert answers["greedy"].token_ids == greedy_solo(model, prompt_of(40), 12)


def test_a_token_outside_the_vocabulary_ends_its_request_only(model):
    engine = make_engine(make_batch(model))
    engine.submit(submit("bad", [1, VOCABULARY]))
    engine.submit(submit("good", prompt_of(10)))
    answers = drain(engine)
    assert (
        answers["bad"].last.error
        == f"invalid_request: token {VOCABULARY} at position 1 is outside the vocabulary of {VOCABULARY}"
    )
    assert answers["good"].token_ids == greedy_solo(model, prompt_of(10), 8)


@pytest.mark.parametrize("token_id", [VOCABULARY, 999_999_999])
def test_a_bias_for_a_token_that_is_none_is_refused_and_nobody_suffers(model, token_id: int):
    engine = make_engine(make_batch(model))
    engine.submit(submit("good", prompt_of(5), 4))
    engine.submit(submit("bad", prompt_of(5), 4, SamplingParams(temperature=0.0, logit_bias=((token_id, 1.0),))))
    answers = drain(engine)
    assert (
        answers["bad"].last.error
        == f"invalid_request: logit_bias names token {token_id}, which is outside the vocabulary of {VOCABULARY}"
    )
    assert answers["good"].token_ids == greedy_solo(model, prompt_of(5), 4)


@pytest.mark.parametrize("layout", [PaddedLayout, SerialLayout])
def test_a_sliding_window_is_resumed_where_it_stood_and_nowhere_else(layout):
    model = tiny_llama(["full_attention", "sliding_attention"])
    engine = make_engine(make_batch(model, layout(model)), SchedulerLimits(max_chunk=256))
    prompt, answers = prompt_of(600), {}
    for name in ("cold", "again"):
        engine.submit(submit(name, prompt))
        drain(engine, answers)
        assert answers[name].token_ids == greedy_solo(model, prompt, 8)
    assert answers["again"].last.num_cached_tokens == 512
    longer = prompt + answers["cold"].token_ids
    engine.submit(submit("longer", longer))
    drain(engine, answers)
    assert answers["longer"].token_ids == greedy_solo(model, longer, 8)
    assert answers["longer"].last.num_cached_tokens == 607


def test_nothing_is_held_for_requests_that_have_ended(model):
    batch = make_batch(model, max_bytes=0)
    engine = make_engine(batch)

    def run_some(start: int) -> int:
        for number in range(start, start + 8):
            engine.submit(submit(f"r{number}", prompt_of(50, number), 4))
        drain(engine)
        mx.synchronize()
        return mx.get_active_memory()

    before = run_some(0)
    assert run_some(8) <= before
