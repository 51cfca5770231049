"""Drafts: where they come from, when they stop, and that nobody can tell from the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from omlx.server.engine.decode_layout import PaddedLayout
from omlx.server.engine.messages import Submit
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.engine.speculation import Draft, DraftControl, Speculation, StepPrices
from omlx.server.requests import SamplingParams

from .driving import Answer, drain, make_engine, step
from .tiny_model import greedy_solo, make_batch, prompt_of, submit, tiny_llama


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


def repeating(length: int, seed: int = 1) -> list[int]:
    """A prompt a draft finds its continuation in."""
    piece = prompt_of(40, seed)
    return (piece * (length // 40 + 1))[:length]


def test_a_row_whose_drafts_do_not_pay_pauses_longer_each_time():
    control = DraftControl()
    pauses = []
    for _ in range(3):
        assert control.wants_draft()
        control.observe(1, price=1.5)
        pause = 0
        while not control.wants_draft():
            pause += 1
        pauses.append(pause)
    assert pauses == sorted(pauses)
    assert pauses[0] > 0


def test_a_row_whose_drafts_pay_goes_on():
    control = DraftControl()
    for _ in range(50):
        assert control.wants_draft()
        control.observe(5, price=1.8)


def test_what_it_takes_to_overlap_steps_again_is_part_of_a_drafts_price():
    prices = StepPrices()
    for _ in range(2):
        prices.observe(8, "", seconds=0.01)
        prices.observe(8, "ngram", seconds=0.012)
    for _ in range(40):
        prices.observe_restart(8, seconds=0.018)
    assert prices.price(8, "ngram") == pytest.approx(2.0, rel=1e-3)


def test_prices_are_measured_by_the_number_of_rows_and_by_who_drafted():
    prices = StepPrices()
    guess = prices.price(1, "ngram")
    for _ in range(2):
        prices.observe(1, "", seconds=0.1)
    assert prices.price(1, "ngram") == guess
    for _ in range(2):
        prices.observe(1, "ngram", seconds=0.15)
    assert prices.price(1, "ngram") == pytest.approx(1.5)
    assert prices.price(4, "ngram") == guess
    assert prices.price(1, "mtp") == guess


def test_a_first_step_that_compiles_kernels_does_not_make_drafts_look_fast():
    speculation = Speculation([FixedDrafter("lucky", [5])])
    speculation.join("a", [1])
    count, drafts = speculation.counts["lucky"], {"a": Draft([5], "lucky")}
    speculation.measure(1, 9.0, {}, {})
    speculation.measure(1, 9.0, drafts, {"a": 2})
    assert count.speedup == 0
    speculation.measure(1, 0.1, {}, {})
    speculation.measure(1, 0.16, drafts, {"a": 2})
    assert count.speedup == pytest.approx(2 / 1.6)


class FixedDrafter:
    """Guesses the same for every row."""

    def __init__(self, name: str, guess: list[int]) -> None:
        self.name = name
        self.guess = guess
        self.asked: list[str] = []

    def join(self, key: str, token_ids: Sequence[int]) -> None:
        pass

    def observe(self, key: str, hidden: Any) -> None:
        pass

    def draft(self, limits: Mapping[str, int]) -> dict[str, list[int]]:
        self.asked += limits
        return dict.fromkeys(limits, self.guess)

    def leave(self, key: str) -> None:
        pass

    def check(self) -> None:
        pass


def test_a_drafter_is_asked_where_those_before_it_have_nothing():
    first, second = FixedDrafter("first", []), FixedDrafter("second", [4])
    speculation = Speculation([first, second])
    speculation.join("a", [1])
    assert speculation.draft({"a": 3}, 1) == {"a": Draft([4], "second")}
    first.guess = [5]
    assert speculation.draft({"a": 3}, 1) == {"a": Draft([5], "first")}
    assert second.asked == ["a"]


def test_a_request_can_do_without_a_drafter():
    speculation = Speculation([FixedDrafter("first", [5]), FixedDrafter("second", [4])])
    speculation.join("a", [1], without=["first"])
    speculation.join("b", [1])
    assert speculation.draft({"a": 3, "b": 3}, 2) == {"a": Draft([4], "second"), "b": Draft([5], "first")}


def test_a_drafter_that_loses_time_is_left_alone_and_the_count_says_so():
    drafter = FixedDrafter("slow", [5])
    speculation = Speculation([drafter])
    speculation.join("a", [1])
    speculation.measure(1, 0.1, {}, {})
    for _ in range(40):
        drafts = speculation.draft({"a": 1}, 1)
        speculation.measure(1, 0.2 if drafts else 0.1, drafts, {"a": 1})
    count = speculation.counts["slow"]
    assert len(drafter.asked) == count.num_drafts < 5
    assert (count.num_tokens, count.num_accepted) == (count.num_drafts, 0)
    assert count.speedup == pytest.approx(0.5)


def test_a_repeating_answer_takes_fewer_steps_and_is_the_same(model):
    prompt, count = prompt_of(50), 60
    expected = greedy_solo(model, prompt, count)
    engine, answers, steps = make_engine(make_batch(model)), {}, 0
    engine.submit(submit("a", prompt, count))
    while engine.has_work:
        step(engine, answers)
        steps += 1
    assert answers["a"].token_ids == expected
    assert steps < count // 2  # a random model soon repeats itself


def test_rows_with_drafts_and_without_write_what_they_write_alone(model):
    engine = make_engine(make_batch(model), SchedulerLimits(max_num_seqs=5, max_chunk=256))
    answers: dict[str, Answer] = {}
    wanted = {f"r{n}": (repeating(230 + 20 * n, n) if n % 2 else prompt_of(17 * n + 1, n), 40) for n in range(8)}
    for name, (prompt, count) in wanted.items():
        engine.submit(submit(name, prompt, count))
        step(engine, answers)
    drain(engine, answers)
    for name, (prompt, count) in wanted.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, count), name


@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_a_seed_gives_the_same_answer_with_drafts_and_without(model, temperature: float):
    sampling = SamplingParams(temperature=temperature, top_p=0.95, seed=3)
    answers = []
    for layout in (None, PaddedLayout(model)):
        engine = make_engine(make_batch(model, layout))
        engine.submit(submit("a", repeating(200), 60, sampling))
        answers.append(drain(engine)["a"].token_ids)
    assert answers[0] == answers[1]
    assert len(answers[0]) == 60


def test_max_tokens_and_stop_tokens_hold_within_a_draft(model):
    prompt = prompt_of(50)
    whole = greedy_solo(model, prompt, 40)
    stop = whole[-1]
    engine = make_engine(make_batch(model))
    engine.submit(submit("short", prompt, 33))
    assert drain(engine)["short"].token_ids == whole[:33]
    engine.submit(Submit("stopped", prompt, 40, [stop], sampling=SamplingParams(temperature=0)))
    assert drain(engine)["stopped"].token_ids == whole[: whole.index(stop)]


def test_what_a_drafted_answer_leaves_in_the_cache_is_right(model):
    engine, answers = make_engine(make_batch(model), SchedulerLimits(max_chunk=256)), {}
    engine.submit(submit("one", repeating(245), 50))
    drain(engine, answers)
    next_turn = [*repeating(245), *answers["one"].token_ids, *prompt_of(20, 8)]
    engine.submit(submit("two", next_turn))
    drain(engine, answers)
    assert answers["two"].last.num_cached_tokens == 294
    assert answers["two"].token_ids == greedy_solo(model, next_turn, 8)


def test_many_rows_do_not_wait_for_the_guess_of_one():
    speculation = Speculation([FixedDrafter("ngram", [5, 6, 7])])
    keys = [f"r{number}" for number in range(8)]
    for key in keys:
        speculation.join(key, [1])
    for _ in range(3):
        speculation.measure(8, 0.01, {}, {})
        all_of_them = dict.fromkeys(keys, Draft([5, 6, 7], "ngram"))
        speculation.measure(8, 0.02, all_of_them, dict.fromkeys(keys, 4))
    assert speculation.draft({keys[0]: 3}, 8) == {}
    assert len(speculation.draft(dict.fromkeys(keys, 3), 8)) == 8


def test_what_other_drafts_brought_is_expected_of_the_next_row():
    speculation = Speculation([FixedDrafter("ngram", [5, 6, 7])])
    for number in range(10):
        speculation.join(f"old{number}", [1])
        speculation.measure(4, 0.01, {f"old{number}": Draft([5, 6, 7], "ngram")}, {f"old{number}": 1})
    speculation.join("new", [1])
    assert speculation.draft({"new": 3}, 4) == {}
    assert speculation.draft({"new": 3}, 1) != {}  # alone it costs nobody else anything to try


def test_a_row_that_is_alone_may_always_try():
    """However long a step with a draft is and whatever others made of theirs: its text may be one that repeats."""
    speculation = Speculation([FixedDrafter("ngram", [5, 6, 7])])
    for number in range(10):
        speculation.join(f"old{number}", [1])
        speculation.measure(1, 0.01, {}, {})
        speculation.measure(1, 0.09, {f"old{number}": Draft([5, 6, 7], "ngram")}, {f"old{number}": 1})
    speculation.join("new", [1])
    assert speculation.draft({"new": 3}, 1) == {"new": Draft([5, 6, 7], "ngram")}
