"""What goes wrong with one request ends that one: the others' answers are whole, in the same engine."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from omlx.server.engine.batch import ROW_FAILED
from omlx.server.engine.engine import MOST_FAILED
from omlx.server.engine.faults import contained
from omlx.server.engine.messages import Submit
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.errors import EngineFailure, InvalidRequest, RequestFailed, from_words
from omlx.server.events import FinishReason

from .driving import Answer, drain, make_engine, step
from .scripted_batch import ScriptedBatch


class Scripted(ScriptedBatch):
    """Fails at the requests that are named after the method that is to fail."""

    def open(self, request: Submit) -> int:
        with contained([request.request_id]):
            if request.request_id.startswith("open"):
                raise ValueError("a poison")
        return super().open(request)

    def prefill(self, request_id: str, count: int) -> list[int]:
        with contained([request_id]):
            if request_id.startswith("prefill"):
                raise ValueError("a poison")
        return super().prefill(request_id, count)

    def prefill_together(self, counts: Mapping[str, int]) -> dict[str, list[int]]:
        self.together.append(list(counts))
        with contained(list(counts)):
            if any(name.startswith("prefill") for name in counts):
                raise ValueError("a poison")
        return {request_id: self.prefill(request_id, count) for request_id, count in counts.items()}


def test_what_is_raised_is_told_logged_once_and_never_hides_what_is_raised_on_purpose(
    caplog: pytest.LogCaptureFixture,
):
    with pytest.raises(RequestFailed, match=r"failed at this request \(ValueError: x+…\)"), contained(["r1"]):
        raise ValueError("x" * 5000)
    [record] = caplog.records
    assert "r1" in record.getMessage()
    assert record.exc_info is not None
    for error in (InvalidRequest("wrong"), KeyboardInterrupt()):
        with pytest.raises(type(error)), contained(["r1"]):
            raise error
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", ["open", "prefill"])
def test_a_request_that_fails_while_another_decodes_ends_alone(name: str):
    batch = Scripted([[5, 6, 7, 8, 9, 0]])
    engine = make_engine(batch)
    answers: dict[str, Answer] = {}
    engine.submit(Submit("talking", [1, 2], 100, [0]))
    step(engine, answers)
    for number in range(5):
        engine.submit(Submit(f"{name}{number}", [3] * 600, 100, [0]))
    drain(engine, answers)
    assert answers["talking"].token_ids == [5, 6, 7, 8, 9]
    for number in range(5):
        error = from_words(answers[f"{name}{number}"].last.error)
        assert isinstance(error, RequestFailed)
        assert "ValueError: a poison" in str(error)
    assert not engine.idle()  # whose check finds nothing left behind


def test_of_prompts_computed_together_only_the_one_at_fault_fails():
    batch = Scripted([[5, 6, 0]])
    batch.computes_together = True
    engine = make_engine(batch)
    names = ["a", "prefill", "b"]
    for number, name in enumerate(names):
        engine.submit(Submit(name, [10 * number + place for place in range(5)], 100, [0]))
    answers = drain(engine)
    assert batch.together == [names]
    assert [answers[name].token_ids for name in names] == [[5, 6], [], [5, 6]]
    assert answers["prefill"].last.error.startswith("request_failed: ")
    assert not engine.idle()


class Faulty(ScriptedBatch):
    """Fails at some requests, each at its place; the others write their own number until they stop."""

    def __init__(self, places: Mapping[str, str], together: bool) -> None:
        super().__init__([[0]])
        self.computes_together = together
        self._places = places

    def open(self, request: Submit) -> int:
        self._fail_at("open", request.request_id)
        position = super().open(request)
        self._answers[request.request_id] = answer_of(request.request_id)
        return position

    def prefill(self, request_id: str, count: int) -> list[int]:
        if self._positions[request_id] + count == len(self._requests[request_id].token_ids):
            self._fail_at("prefill", request_id)
        return super().prefill(request_id, count)

    def prefill_together(self, counts: Mapping[str, int]) -> dict[str, list[int]]:
        self._fail_at("prefill", *counts)
        return super().prefill_together(counts)

    def decode(self) -> dict[str, list[int]]:
        news = super().decode()
        fails = {name for name in news if self._places.get(name) == "decode" and len(self._answers[name]) < 5}
        return {name: [*tokens, ROW_FAILED] if name in fails else tokens for name, tokens in news.items()}

    def _fail_at(self, place: str, *names: str) -> None:
        with contained(names):
            assert place not in [self._places.get(name) for name in names]


def answer_of(name: str) -> list[int]:
    return [int(name)] * 8 + [0]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_fails_wherever_the_others_have_their_answers(seed: int):
    dice = random.Random(seed)
    names = [str(number) for number in range(1, 41)]
    places = {name: dice.choice(["open", "prefill", "decode"]) for name in dice.sample(names, 12)}
    cancelled = set(dice.sample(names, 6))
    batch = Faulty(places, together=seed % 2 == 0)
    engine = make_engine(batch, SchedulerLimits(max_num_seqs=dice.choice([2, 5]), max_chunk=256))
    answers: dict[str, Answer] = {}
    for name in names:
        length = dice.choice([3, 40, 300, 600])
        engine.submit(Submit(name, [int(name) * 1000 + place for place in range(length)], 100, [0]))
        for _ in range(dice.randrange(4)):
            step(engine, answers)
        if name in cancelled:
            engine.cancel(name)
    drain(engine, answers)
    for name in sorted(set(names) - cancelled):
        if name in places:
            assert answers[name].last.error.startswith("request_failed: "), (name, places[name])
        else:
            assert answers[name].token_ids == answer_of(name)[:-1]
            assert answers[name].last.finish_reason is FinishReason.STOP
    assert not engine.idle()


def test_many_that_fail_in_a_row_end_the_engine_and_one_that_does_not_begins_the_count_anew():
    engine = make_engine(Scripted([[5, 0]]))

    def ask(name: str, count: int) -> None:
        for number in range(count):
            engine.submit(Submit(f"{name}{number}", [number + 1], 5, [0]))
            drain(engine)

    ask("prefill", MOST_FAILED - 1)
    ask("good", 1)
    ask("open", MOST_FAILED - 1)
    with pytest.raises(EngineFailure, match=r"16 requests in a row failed: ValueError$"):
        ask("open", 1)


def test_what_is_raised_for_all_rows_ends_the_engine():
    class Broken(ScriptedBatch):
        def decode(self) -> dict[str, list[int]]:
            raise RuntimeError("the device is lost")

    engine = make_engine(Broken([[5, 6]]))
    engine.submit(Submit("a", [1], 10))
    with pytest.raises(RuntimeError, match="the device is lost"):
        drain(engine)
