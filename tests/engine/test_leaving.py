"""Whoever leaves while a prompt is computed is heard between two of its layers."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from omlx.server.engine.engine import Engine
from omlx.server.engine.messages import Cancel, EngineReady, StepOutput, Submit
from omlx.server.engine.ngram_drafter import NgramDrafter
from omlx.server.engine.recorder import Recorder
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.errors import EngineFailure

from .driving import Answer, TickingClock, drain, make_engine, step
from .scripted_batch import ScriptedBatch
from .test_books import LAYOUTS
from .test_worker import SECONDS, worker
from .tiny_model import GREEDY, greedy_solo, make_batch, prompt_of, submit, tiny_llama


class Layers(ScriptedBatch):
    """Computes a piece of prompt, or a pass of several, in eight groups of layers. Once `leaving` are set, they leave
    in the third group from then on."""

    def __init__(self) -> None:
        super().__init__([[7] * 1000])
        self.cancelled: set[str] = set()
        self.leaving: list[str] = []
        self.num_groups = 0
        self.freed_at: dict[str, int] = {}

    def prefill(self, request_id: str, count: int) -> list[int]:
        return super().prefill(request_id, count) if self._compute() else []

    def prefill_together(self, counts: Mapping[str, int]) -> dict[str, list[int]]:
        self.together.append(list(counts))
        prefill, is_whole = super().prefill, self._compute()
        return {request_id: prefill(request_id, count) if is_whole else [] for request_id, count in counts.items()}

    def release(self, request_id: str) -> None:
        self.freed_at[request_id] = self.num_groups
        super().release(request_id)

    def _compute(self) -> bool:
        for _ in range(8):
            if not self.go_on():
                return False
            self.num_groups += bool(self.leaving)
            if self.num_groups == 3:
                self.cancelled.update(self.leaving)
        return True


class Run:
    """An engine on such a batch; `freed` has the rows and the waiting requests there were when it told of any."""

    def __init__(self, limits: SchedulerLimits | None = None) -> None:
        self.batch = Layers()
        self.freed: list[tuple[int, int]] = []
        scheduler = Scheduler(limits or SchedulerLimits(max_chunk=256))
        self.engine = Engine(scheduler, self.batch, TickingClock(), self.batch.cancelled, self._note)

    def submit(self, name: str, length: int) -> None:
        seed = sum(map(ord, name))
        self.engine.submit(Submit(name, [seed * 100_000 + place for place in range(length)], 1000))

    def until(self, is_so: Callable[[], object]) -> None:
        while not is_so():
            self.engine.step()

    def _note(self) -> None:
        stats = self.engine.news().stats
        self.freed.append((stats.num_running, stats.num_waiting))


def test_a_row_that_decodes_is_free_before_the_next_layers_of_anothers_prompt():
    run = Run()
    run.submit("left", 50)
    run.until(lambda: run.batch.chunks)
    run.submit("long", 2000)
    run.until(lambda: "long" in run.batch.opened)
    run.batch.leaving = ["left"]
    num_pieces = len(run.batch.chunks)
    run.until(lambda: run.batch.num_groups)
    run.until(lambda: len(run.batch.chunks) > num_pieces)
    assert run.batch.freed_at == {"left": 3}
    assert run.freed == [(1, 0)]
    run.until(lambda: sum(count for name, count in run.batch.chunks if name == "long") == 2000)


def test_a_prompt_halfway_is_given_up_before_the_next_layers_of_one_that_overtook_it():
    run = Run()
    run.submit("left", 2000)
    run.until(lambda: run.batch.chunks)
    run.submit("short", 500)
    run.batch.leaving = ["left"]
    run.until(lambda: sum(count for name, count in run.batch.chunks if name == "short") == 500)
    assert run.batch.freed_at == {"left": 3}
    assert run.freed == [(1, 0)]


def test_one_that_waits_is_forgotten_before_the_next_layers():
    run = Run(SchedulerLimits(max_num_seqs=1, max_chunk=256))
    run.submit("long", 2000)
    run.until(lambda: run.batch.chunks)
    run.submit("left", 50)
    run.batch.leaving = ["left"]
    run.until(lambda: run.batch.num_groups)
    assert run.freed == [(1, 0)]
    assert "left" not in run.batch.opened


@pytest.mark.parametrize("leaving", [["a"], ["a", "b"], ["decodes"]])
def test_of_a_pass_of_several_prompts_who_left_goes_at_its_end_and_others_before_the_next_layers(leaving: list[str]):
    run = Run()
    run.batch.computes_together = True
    run.submit("decodes", 50)
    run.until(lambda: run.batch.chunks)
    run.submit("a", 60)
    run.submit("b", 60)
    run.batch.leaving = leaving
    run.until(lambda: run.batch.together)
    assert run.batch.together == [["a", "b"]]
    is_given_up = leaving == ["a", "b"]
    assert run.batch.freed_at == dict.fromkeys(leaving, 8 if leaving == ["a"] else 3)
    assert run.freed == ([(2, 0)] if leaving == ["decodes"] else [])
    assert len(run.batch.chunks) == (1 if is_given_up else 3)


class Long(ScriptedBatch):
    """Computes the prompt of one for as long as somebody waits for it, or until the event is set."""

    def __init__(self, request_id: str) -> None:
        super().__init__([[5, 6, 0]])
        self._request_id = request_id
        self.computing, self.enough = threading.Event(), threading.Event()

    def prefill(self, request_id: str, count: int) -> list[int]:
        while request_id == self._request_id and not self.enough.is_set():
            self.computing.set()
            if not self.go_on():
                return []
        return super().prefill(request_id, count)


def test_a_prompt_is_given_up_whose_request_is_cancelled():
    batch = Long("left")
    with worker(lambda: batch) as (peer, _):
        assert isinstance(peer.receive(), EngineReady)
        peer.send(Submit("left", [1, 2, 3], 10, [0]))
        assert batch.computing.wait(SECONDS)
        peer.send(Cancel("left"))
        peer.send(Submit("a", [4, 5, 6], 10, [0]))
        assert peer.receive_until_finished("a") == [5, 6]


def test_that_a_row_is_free_is_told_while_anothers_prompt_is_computed():
    batch = Long("long")
    with worker(lambda: batch) as (peer, _):
        assert isinstance(peer.receive(), EngineReady)
        peer.send(Submit("left", [1, 2, 3], 1_000_000))
        peer.send(Submit("long", [4, 5, 6], 10, [0]))
        assert batch.computing.wait(SECONDS)
        peer.send(Cancel("left"))
        news = peer.receive()
        while isinstance(news, StepOutput) and (news.updates or news.stats.num_running != 1):
            news = peer.receive()
        assert not batch.enough.is_set()
        batch.enough.set()
        assert peer.receive_until_finished("long") == [5, 6]


class Leaving:
    """Names one request, from the n-th time on that it is asked about."""

    def __init__(self, request_id: str, count: int) -> None:
        self._request_id = request_id
        self.count = count

    def __contains__(self, request_id: object) -> bool:
        self.count -= request_id == self._request_id
        return request_id == self._request_id and self.has_left

    @property
    def has_left(self) -> bool:
        return self.count <= 0


def with_states(model: nn.Module) -> Recorder:
    """The model as one with an MTP layer is run: the states stand beside the logits."""

    class WithStates:
        def __init__(self) -> None:
            self.model = model.model

        def forward(self, inputs: mx.array, cache: Any = None) -> tuple[mx.array, mx.array]:
            logits = model(inputs, cache=cache)
            return logits, logits * 2

    states: Any = WithStates()
    return Recorder(states)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_llama()


@pytest.mark.parametrize("asked", range(1, 8))
def test_a_prompt_that_is_cancelled_while_it_is_computed_is_given_up_between_two_layers(model, asked):
    leaving, prompt = Leaving("left", asked), prompt_of(700)
    batch = make_batch(model)
    engine, answers = make_engine(batch, SchedulerLimits(max_chunk=256), cancelled=leaving), {}
    engine.submit(submit("beside", prompt_of(40, 5), 60))
    step(engine, answers)
    engine.submit(submit("left", prompt))
    while not leaving.has_left:
        step(engine, answers)
        assert "left" not in answers or not answers["left"].token_ids
    step(engine, answers)
    engine.cancel("left")  # of which the engine has not heard before
    engine.submit(submit("again", prompt))
    drain(engine, answers)
    assert answers["beside"].token_ids == greedy_solo(model, prompt_of(40, 5), 60)
    assert answers["again"].token_ids == greedy_solo(model, prompt, 8)
    batch.check()


def test_a_prompt_that_is_given_up_is_not_held_until_the_next_one(model):
    leaving = Leaving("left", 5)
    batch = make_batch(model, max_bytes=0, run=with_states(model), drafters=[])
    engine, answers = make_engine(batch, SchedulerLimits(max_chunk=256), cancelled=leaving), {}
    engine.submit(submit("before", prompt_of(20), 2))
    drain(engine, answers)
    gc.collect()
    mx.synchronize()
    before = mx.get_active_memory()
    engine.submit(submit("left", prompt_of(700)))
    drain(engine, answers)
    gc.collect()
    mx.synchronize()
    assert leaving.has_left
    assert not answers["left"].token_ids
    assert mx.get_active_memory() <= before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("runs_ahead", [False, True])
def test_rows_that_are_freed_amid_anothers_prompt_change_nothing_for_the_others(
    model: nn.Module, layout: str, runs_ahead: bool
):
    prompts = {"stays": prompt_of(40, 5), "left": prompt_of(300, 2), "long": prompt_of(600), "again": prompt_of(310, 2)}
    leaving = Leaving("left", 1000)
    batch = make_batch(model, LAYOUTS[layout](model), runs_ahead=runs_ahead)
    engine, answers = make_engine(batch, SchedulerLimits(max_chunk=256), cancelled=leaving), {}
    for name in ("stays", "left"):
        engine.submit(submit(name, prompts[name], 60))
    while "left" not in answers or len(answers["left"].token_ids) < 3:
        step(engine, answers)
    leaving.count = 3  # in the prompt's second piece, of which two layers are computed one by one
    engine.submit(submit("long", prompts["long"]))
    while not leaving.has_left:
        assert not answers.get("long", Answer()).token_ids
        step(engine, answers)
    num_tokens = len(answers["left"].token_ids)
    engine.submit(submit("again", prompts["again"]))
    drain(engine, answers)
    assert len(answers["left"].token_ids) == num_tokens < 30
    for name, count in (("stays", 60), ("long", 8), ("again", 8)):
        assert answers[name].token_ids == greedy_solo(model, prompts[name], count)
    assert answers["again"].last.num_cached_tokens >= 256


def test_the_states_of_a_prompt_outlast_a_row_that_is_freed_amid_it(model: nn.Module):
    seen: list[int] = []

    class Watching(NgramDrafter):
        def observe(self, key: str, hidden: Any) -> None:
            del key
            seen.append(hidden.shape[1])

    leaving = Leaving("left", 4)
    batch = make_batch(model, run=with_states(model), drafters=[Watching()])
    engine, answers = make_engine(batch, SchedulerLimits(max_chunk=256), cancelled=leaving), {}
    engine.submit(submit("left", prompt_of(3000)))
    step(engine, answers)
    assert not leaving.has_left
    engine.submit(submit("short", prompt_of(50, 2)))
    drain(engine, answers)
    assert leaving.has_left
    assert answers["short"].token_ids == greedy_solo(model, prompt_of(50, 2), 8)
    assert seen[0] == 1  # of the last token of its prompt


def test_a_row_that_cannot_be_freed_amid_anothers_prompt_ends_the_engine(model: nn.Module):
    cancelled: set[str] = set()
    layout = LAYOUTS["slots"](model)
    engine, answers = make_engine(make_batch(model, layout), cancelled=cancelled), {}
    engine.submit(submit("left", prompt_of(40), 60))
    step(engine, answers)
    engine.submit(submit("innocent", prompt_of(600, 2)))
    step(engine, answers)
    cancelled.add("left")
    layout.leave = lambda _: layout.gone
    with pytest.raises(EngineFailure, match="gone"):
        drain(engine, answers)


def test_a_prompt_whose_scores_are_wanted_is_given_up_too(model: nn.Module):
    leaving = Leaving("left", 5)
    engine, answers = make_engine(make_batch(model), SchedulerLimits(max_chunk=256), cancelled=leaving), {}
    engine.submit(Submit("left", prompt_of(700), 2, logprobs=0, prompt_logprobs=True))
    drain(engine, answers)
    assert leaving.has_left
    assert not answers["left"].token_ids


def test_a_row_is_freed_amid_a_pass_of_several_prompts(model: nn.Module):
    leaving, freed = Leaving("left", 1000), []
    batch = make_batch(model)
    engine = Engine(Scheduler(SchedulerLimits()), batch, TickingClock(), leaving, lambda: freed.append(engine.news()))
    answers: dict[str, Answer] = {}
    engine.submit(submit("left", prompt_of(40), 60))
    while "left" not in answers:
        step(engine, answers)
    for name, seed in (("a", 2), ("b", 3)):
        engine.submit(submit(name, prompt_of(60, seed)))
    leaving.count = 2
    drain(engine, answers)
    assert [news.stats.num_running for news in freed] == [2]
    for name, seed in (("a", 2), ("b", 3)):
        assert answers[name].token_ids == greedy_solo(model, prompt_of(60, seed), 8)


@pytest.mark.parametrize("asked", range(2, 6))
def test_one_of_several_whose_scores_are_wanted_may_leave_amid_anothers(model: nn.Module, asked: int):
    leaving = Leaving("left", 1000)
    engine, answers = make_engine(make_batch(model), SchedulerLimits(max_chunk=256), cancelled=leaving), {}
    for name, seed in (("first", 2), ("left", 3), ("last", 4)):
        engine.submit(Submit(name, prompt_of(60, seed), 2, sampling=GREEDY, logprobs=0, prompt_logprobs=True))
    leaving.count = asked
    drain(engine, answers)
    assert leaving.has_left
    assert not answers.get("left", Answer()).token_ids
    for name, seed in (("first", 2), ("last", 4)):
        assert answers[name].token_ids == greedy_solo(model, prompt_of(60, seed), 2)
