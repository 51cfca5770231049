"""The engine on a scripted batch: what a client sees of scheduling, ends, errors and cancels."""

from __future__ import annotations

from collections.abc import Iterator

from omlx.server.engine.engine import Engine
from omlx.server.engine.messages import Submit
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.events import FinishReason

from .driving import Answer, drain, make_engine, step
from .scripted_batch import ScriptedBatch


def request(request_id: str, length: int = 10, max_tokens: int = 100, stop: tuple[int, ...] = (0,), **rest) -> Submit:
    first = sum(map(ord, request_id))
    return Submit(request_id, [first + i for i in range(length)], max_tokens, list(stop), **rest)


def test_an_answer_ends_at_the_stop_token_which_is_left_out():
    engine = make_engine(ScriptedBatch([[5, 6, 7, 0]]))
    engine.submit(request("a"))
    answer = drain(engine)["a"]
    assert answer.token_ids == [5, 6, 7]
    assert answer.last.finish_reason is FinishReason.STOP


def test_an_answer_ends_at_max_tokens():
    engine = make_engine(ScriptedBatch([[5, 6, 7, 8, 9]]))
    engine.submit(request("a", max_tokens=3))
    answer = drain(engine)["a"]
    assert answer.token_ids == [5, 6, 7]
    assert answer.last.finish_reason is FinishReason.LENGTH


def test_one_token_needs_no_decode_step():
    batch = ScriptedBatch([[5, 6]])
    engine = make_engine(batch)
    engine.submit(request("a", max_tokens=1))
    engine.step()
    assert batch.released == ["a"]


def test_the_first_update_says_that_the_request_was_admitted():
    engine = make_engine(ScriptedBatch([[5, 0]]), SchedulerLimits(max_num_seqs=1))
    engine.submit(request("a"))
    engine.submit(request("b"))
    updates = {update.request_id: update for update in engine.step().updates}
    assert updates["b"].num_computed_tokens == 0
    assert not updates["b"].error


def test_every_chunk_of_a_prompt_is_reported():
    engine = make_engine(ScriptedBatch([[5, 0]]), SchedulerLimits(grid=256, max_chunk=256))
    engine.submit(request("a", length=600))
    computed = [update.num_computed_tokens for update in drain(engine)["a"].updates]
    assert computed[:3] == [256, 512, 600]


def test_reused_tokens_are_reported_and_not_computed_again():
    batch = ScriptedBatch([[5, 0]])
    engine = make_engine(batch)
    engine.submit(request("a", length=100))
    drain(engine)
    engine.submit(Submit("b", request("a", length=100).token_ids, 5, [0]))
    answer = drain(engine)["b"]
    assert answer.last.num_cached_tokens == 99
    assert batch.chunks[-1] == ("b", 1)


def test_a_full_queue_refuses_and_the_others_go_on():
    engine = make_engine(ScriptedBatch([[5, 0]]), SchedulerLimits(max_num_waiting=2))
    for name in "abc":
        engine.submit(request(name))
    answers = drain(engine)
    assert answers["c"].last.error.startswith("overloaded: ")
    assert answers["a"].token_ids == answers["b"].token_ids == [5]


def test_a_request_that_cannot_be_run_ends_with_an_error_of_its_own():
    engine = make_engine(ScriptedBatch([[5, 0]]))
    engine.submit(Submit("empty", [], 5))
    engine.submit(request("none", max_tokens=0))
    engine.submit(request("good"))
    answers = drain(engine)
    assert answers["empty"].last.error.startswith("invalid_request: the prompt has no tokens")
    assert answers["none"].last.error.startswith("invalid_request: max_tokens")
    assert answers["good"].token_ids == [5]


def test_a_cancelled_request_is_not_heard_of_again():
    batch = ScriptedBatch([[5, 6, 7, 8, 9]])
    engine = make_engine(batch)
    engine.submit(request("a"))
    engine.submit(request("b", max_tokens=3))
    answers = {}
    step(engine, answers)
    engine.cancel("a")
    before = len(answers["a"].updates)
    drain(engine, answers)
    assert len(answers["a"].updates) == before
    assert "a" in batch.released
    assert len(answers["b"].token_ids) == 3


def test_a_cancel_during_prefill_stops_it_at_once():
    batch = ScriptedBatch([[5]])
    engine = make_engine(batch, SchedulerLimits(max_chunk=256))
    engine.submit(request("a", length=2000))
    engine.step()
    engine.cancel("a")
    assert batch.released == ["a"]
    assert not engine.has_work


def test_a_cancel_of_an_unknown_request_is_ignored():
    engine = make_engine(ScriptedBatch([[5]]))
    engine.cancel("nobody")
    assert not engine.has_work


def test_rows_decode_together_while_a_prompt_is_computed():
    engine = make_engine(ScriptedBatch([[5]]), SchedulerLimits(max_chunk=256))
    engine.submit(request("talking", max_tokens=50))
    engine.step()
    engine.submit(request("long", length=5000, max_tokens=1))
    updates = [{u.request_id for u in engine.step().updates} for _ in range(10)]
    assert updates[0] == {"talking", "long"}  # a step of the rows, and that the other was admitted
    assert updates[1:] == [{"long"}, {"talking"}] * 4 + [{"long"}]


def test_a_prompt_that_comes_while_rows_decode_is_computed_before_they_decode_again():
    engine = make_engine(ScriptedBatch([[5]]))
    engine.submit(request("talking", max_tokens=50))
    for _ in range(3):
        engine.step()
    engine.submit(request("short", length=40))
    assert {update.request_id for update in engine.step().updates if update.token_ids} == {"short"}
    assert {update.request_id for update in engine.step().updates if update.token_ids} == {"talking", "short"}


def test_an_identical_resend_joins_the_running_prefill():
    batch = ScriptedBatch([[5, 0]])
    engine = make_engine(batch)
    prompt = list(range(3000))
    answers: dict[str, Answer] = {}
    engine.submit(Submit("first", prompt, 10, [0]))
    step(engine, answers)
    engine.submit(Submit("again", prompt, 10, [0]))
    drain(engine, answers)

    assert sum(count for _, count in batch.chunks) <= len(prompt) + 1
    assert answers["first"].token_ids == answers["again"].token_ids == [5]


def test_a_resend_that_waits_is_told_how_far_its_prompt_is():
    engine = make_engine(ScriptedBatch([[5, 0]]), SchedulerLimits(max_chunk=256))
    prompt = list(range(2000))
    answers: dict[str, Answer] = {}
    engine.submit(Submit("first", prompt, 10, [0]))
    step(engine, answers)
    engine.submit(Submit("again", prompt, 10, [0]))
    engine.submit(Submit("half", prompt[:1000] + [9] * 1000, 10, [0]))
    engine.submit(Submit("other", [9] * 2000, 10, [0]))
    drain(engine, answers)

    def awaited(name: str) -> list[int]:
        return [update.num_awaited_tokens for update in answers[name].updates if update.num_awaited_tokens]

    assert awaited("again") == [512, 768, 1024, 1280, 1536, 1792]
    assert awaited("half")[:3] == [512, 768, 1000]
    assert awaited("other") == awaited("first") == []


def test_a_resend_goes_on_where_its_aborted_forerunner_stopped():
    batch = ScriptedBatch([[5, 0]])
    engine = make_engine(batch)
    prompt = list(range(3000))
    answers: dict[str, Answer] = {}
    engine.submit(Submit("first", prompt, 10, [0]))
    step(engine, answers)
    engine.submit(Submit("again", prompt, 10, [0]))
    engine.cancel("first")
    drain(engine, answers)

    assert sum(count for _, count in batch.chunks) == len(prompt)
    assert answers["again"].last.num_cached_tokens > 0


def test_what_comes_from_the_disk_begins_once_it_is_here():
    batch = ScriptedBatch([[5] * 50])
    batch.fetching.add("b")
    engine = make_engine(batch)
    answers: dict[str, Answer] = {}
    engine.submit(request("a", max_tokens=50))
    step(engine, answers)
    engine.submit(request("b", max_tokens=50))
    for _ in range(5):
        step(engine, answers)
    assert batch.opened == ["a"]
    batch.fetching.clear()
    for _ in range(2):
        step(engine, answers)
    assert batch.opened == ["a", "b"]
    drain(engine, answers)
    assert [answers[key].token_ids for key in ("a", "b")] == [[5] * 50] * 2


def test_a_prompt_whose_file_is_not_read_yet_holds_up_no_other_from_the_disk():
    batch = ScriptedBatch([[5] * 50])
    batch.fetching |= {"b", "c"}
    engine = make_engine(batch)
    answers: dict[str, Answer] = {}
    engine.submit(request("a", max_tokens=50))
    step(engine, answers)
    for name in ("b", "c"):
        engine.submit(request(name, max_tokens=50))
    batch.fetching.remove("c")
    for _ in range(4):
        step(engine, answers)
    assert batch.opened == ["a", "c"]


class TimedBatch(ScriptedBatch):
    """Takes a millisecond for a token of a prompt, and `step_seconds` for a step."""

    now = 0.0
    step_seconds = 0.0

    def decode(self) -> dict[str, list[int]]:
        self.now += self.step_seconds
        return super().decode()

    def prefill(self, request_id: str, count: int) -> list[int]:
        self.now += count / 1000
        return super().prefill(request_id, count)


class PiecesOnDisk(TimedBatch):
    """Has twenty pieces of each prompt on disk, each of which takes 30 ms to bring up."""

    def fetch(self, request: Submit) -> Iterator[bool]:
        del request
        yield False
        for _ in range(20):
            self.now += 0.03
            yield True


def test_rows_that_decode_wait_for_a_few_pieces_from_the_disk_at_a_time():
    batch = PiecesOnDisk([[7] * 100])
    batch.step_seconds = 0.01
    engine = Engine(Scheduler(SchedulerLimits(decode_gap_seconds=0.2)), batch, lambda: batch.now)
    engine.submit(Submit("running", [1], 100))
    engine.step()
    engine.submit(Submit("from disk", [2], 100))
    turns: list[float] = []
    while len(batch.opened) < 2:
        started = batch.now
        engine.step()
        turns.append(batch.now - started)
    assert 0.6 < sum(turns) < 0.8
    assert max(turns) < 0.131
    assert [round(turn, 3) for turn in turns].count(0.01) >= 4  # steps between them


def test_all_prompts_of_one_turn_together_keep_rows_waiting_no_longer_than_the_gap():
    batch = TimedBatch([[7] * 100])
    batch.computes_together = True
    engine = Engine(Scheduler(SchedulerLimits(decode_gap_seconds=0.3)), batch, lambda: batch.now)
    engine.submit(Submit("running", list(range(256)), 100))
    engine.step()
    for number, length in enumerate([250, *[50] * 8], 1):
        engine.submit(Submit(str(number), [1000 * number - place for place in range(length)], 100))
        batch.now += 1  # the long one has waited, and goes first
    turns: list[float] = []
    while len(batch.opened) < 10:
        started = batch.now
        engine.step()
        turns.append(batch.now - started)
    assert max(turns) < 0.301


def test_a_turn_computes_as_many_pieces_of_prompts_as_take_four_steps():
    batch = TimedBatch([[7] * 100])
    batch.step_seconds = 0.15
    engine = Engine(Scheduler(SchedulerLimits(max_chunk=256)), batch, lambda: batch.now)
    engine.submit(Submit("running", list(range(256)), 100))
    engine.step()
    engine.step()
    engine.submit(Submit("long", list(range(1000, 2300)), 100))
    engine.submit(Submit("longer", list(range(3000, 4600)), 100))
    turns: list[float] = []
    while sum(count for _, count in batch.chunks) < 256 + 1300 + 1600:
        started = batch.now
        engine.step()
        turns.append(batch.now - started)
    assert [round(turn, 3) for turn in turns[::2]] == [0.512, 0.512, 0.532, 0.512, 0.512, 0.32]
    assert [round(turn, 3) for turn in turns[1::2]] == [0.15] * 5
