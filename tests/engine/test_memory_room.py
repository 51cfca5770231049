"""Sequences run together where memory has room for all of them, and prefixes take what they leave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omlx.server.engine.memory_room import MemoryRoom
from omlx.server.engine.messages import MemoryLimit, Submit
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.engine.sequence import Sequence
from omlx.server.events import FinishReason
from omlx.server.models.footprint import Footprint

from .driving import Answer, drain, make_engine, step
from .scripted_batch import ScriptedBatch

FOOTPRINT = Footprint(weight_bytes=1000, token_bytes=10, chunk_bytes=100)


def submit(request_id: str, length: int, max_tokens: int = 10) -> Submit:
    first = sum(map(ord, request_id)) * 100_000
    return Submit(request_id, list(range(first, first + length)), max_tokens)


def room_for(num_tokens: int) -> MemoryRoom:
    return MemoryRoom(FOOTPRINT, 1000 + 100 + 10 * num_tokens)


def test_a_request_waits_until_there_is_room_beside_those_that_run():
    batch = ScriptedBatch([[7] * 10])
    engine = make_engine(batch, room=room_for(200))
    for name in ("a", "b", "c"):
        engine.submit(submit(name, 80))
    answers: dict[str, Answer] = {}
    for _ in range(4):
        step(engine, answers)
    assert batch.opened == ["a", "b"]
    drain(engine, answers)
    assert batch.opened == ["a", "b", "c"]
    assert [answers[name].token_ids for name in ("a", "b", "c")] == [[7] * 10] * 3


def test_none_overtakes_the_first_that_has_no_room():
    batch = ScriptedBatch([[7] * 40])
    engine = make_engine(batch, room=room_for(200))
    engine.submit(submit("running", 100, 40))
    step(engine, {})
    engine.submit(submit("large", 100, 10))
    engine.submit(submit("small", 120, 1))
    for _ in range(20):
        step(engine, {})
    assert batch.opened == ["running"]
    drain(engine)
    assert batch.opened == ["running", "large", "small"]


def test_a_request_that_is_alone_runs_whatever_answer_it_allows():
    engine = make_engine(ScriptedBatch([[7, 8]]), room=room_for(100))
    engine.submit(submit("a", 90, max_tokens=100_000))
    answers: dict[str, Answer] = {}
    for _ in range(3):
        step(engine, answers)
    assert answers["a"].token_ids


def test_a_prompt_that_never_fits_is_refused_with_the_length_that_does():
    engine = make_engine(ScriptedBatch([[7]]), room=room_for(600))
    engine.submit(submit("a", 700))
    (answer,) = drain(engine).values()
    assert answer.last.error == "context_length_exceeded: prompt is too long: 700 tokens > 511 maximum"


def test_the_last_to_come_ends_where_answers_outgrow_the_memory():
    batch = ScriptedBatch([[7] * 6000])
    engine = make_engine(batch, room=room_for(9000))
    engine.submit(submit("first", 100, 6000))
    engine.submit(submit("second", 100, 6000))
    answers = drain(engine)
    assert answers["second"].last.error.startswith("overloaded: the requests that run have filled the memory")
    assert len(answers["second"].token_ids) > 4000
    assert answers["first"].token_ids == [7] * 6000
    assert answers["first"].last.finish_reason is FinishReason.LENGTH
    assert batch.released == ["second", "first"]


def test_prefixes_may_have_what_the_sequences_leave():
    batch = ScriptedBatch([[7] * 5])
    engine = make_engine(batch, room=room_for(200))
    engine.submit(submit("a", 90, 10))
    drain(engine)
    step(engine, {})
    assert min(batch.prefix_bounds) == 10 * 200 - 10 * 100
    assert batch.prefix_bounds[-1] == 10 * 200 + 100


@pytest.mark.parametrize("limit", [1100 + 10 * 260, 1100 + 10 * 140])
def test_the_limit_changes_while_requests_run(limit: int):
    batch = ScriptedBatch([[7] * 30])
    engine = make_engine(batch, room=room_for(150))
    engine.submit(submit("a", 100, 30))
    engine.submit(submit("b", 100, 30))
    step(engine, answers := {})
    engine.limit(MemoryLimit(limit))
    for _ in range(2):
        step(engine, answers)
    assert batch.opened == (["a", "b"] if limit == 1100 + 10 * 260 else ["a"])
    drain(engine, answers)
    assert [answers[name].token_ids for name in ("a", "b")] == [[7] * 30] * 2


def test_an_answer_that_is_alone_ends_where_memory_does_as_at_the_end_of_its_window():
    batch = ScriptedBatch([[7] * 6000])
    engine = make_engine(batch, room=room_for(200))
    engine.submit(submit("a", 100, 6000))
    (answer,) = drain(engine).values()
    assert answer.token_ids == [7] * 101
    assert answer.last.finish_reason is FinishReason.LENGTH
    assert (answer.last.num_computed_tokens, answer.last.error) == (100, "")
    assert batch.released == ["a"]


def test_a_prompt_that_fits_with_a_token_of_an_answer_gets_one():
    footprint = replace(FOOTPRINT, growth_tokens=16, score_bytes=1)
    limit = footprint.total_bytes(161)
    for length in (160, 175, 176):
        engine = make_engine(ScriptedBatch([[7] * 9]), room=MemoryRoom(footprint, limit, large_row_tokens=1000))
        engine.submit(submit("a", length, 9))
        (answer,) = drain(engine).values()
        assert bool(answer.token_ids) == (length == 160), length
        assert bool(answer.last.error) == (length > 160), length


def test_where_other_models_come_an_answer_ends_and_prompts_are_refused_that_fit_no_more():
    batch = ScriptedBatch([[7] * 6000])
    engine = make_engine(batch, SchedulerLimits(max_num_seqs=1), room_for(9000))
    for name, length in (("answers", 3000), ("long", 4000), ("short", 1000)):
        engine.submit(submit(name, length, 2000))
    answers: dict[str, Answer] = {}
    while len(batch.opened) < 2 or not answers["answers"].token_ids:
        step(engine, answers)
    assert batch.opened == ["short", "answers"]
    engine.limit(MemoryLimit(1100 + 10 * 3100))
    drain(engine, answers)
    assert answers["long"].last.error == "context_length_exceeded: prompt is too long: 4000 tokens > 3071 maximum"
    assert answers["answers"].last.finish_reason is FinishReason.LENGTH
    assert 0 < len(answers["answers"].token_ids) <= 101


def test_a_prompt_that_is_being_computed_is_refused_where_it_fits_no_more():
    batch = ScriptedBatch([[7]])
    engine = make_engine(batch, room=room_for(9000))
    engine.submit(submit("a", 4000))
    step(engine, answers := {})
    engine.limit(MemoryLimit(1100 + 10 * 3000))
    drain(engine, answers)
    assert answers["a"].last.error.startswith("context_length_exceeded")
    assert batch.released == ["a"]


def test_the_engine_tells_what_its_requests_claim():
    engine = make_engine(ScriptedBatch([[7] * 9000]), room=room_for(9000))
    assert engine.step().stats.claimed_bytes == 1000
    engine.submit(submit("a", 100, 50))
    assert engine.step().stats.claimed_bytes == 1000 + 100 + 10 * 150
    engine.submit(submit("b", 6000, 9000))
    assert engine.step().stats.claimed_bytes == 1000 + 100 + 10 * (6000 + 4096)
    engine.cancel("a")
    assert engine.step().stats.claimed_bytes == 1000 + 100 + 10 * (6000 + 4096)
    engine.cancel("b")
    assert engine.step().stats.claimed_bytes == 1000


def test_rows_that_share_slots_are_counted_with_the_idle_ones():
    room = MemoryRoom(FOOTPRINT, 1000 + 100 + 10 * 1000, large_row_tokens=100)
    shared, large = ({sequence("a", length), sequence("b", length)} for length in (90, 490))
    assert room.left(shared) == 10 * (1000 - 2 * 3 * 100)
    assert room.left(large) == 0


def test_a_row_that_will_be_large_is_counted_in_the_slots_that_it_shares_until_then():
    room = MemoryRoom(FOOTPRINT, 1000 + 100 + 10 * 1000, large_row_tokens=100)
    for length, most in ((80, 3 * 90), (98, 3 * 100), (100, 3 * 100), (101, 111), (400, 410)):
        assert room.left([sequence("a", length)]) == 10 * (1000 - most), length


def test_rows_that_are_padded_are_all_as_long_as_the_longest_and_serial_ones_as_they_are():
    batching = "padded"
    room = MemoryRoom(FOOTPRINT, 1000 + 100 + 10 * 1000, 1000, lambda: batching)
    rows = [sequence("a", 90), sequence("b", 390)]
    assert room.left(rows) == 10 * 200
    batching = "undecided"
    assert room.left(rows) == 10 * 200
    batching = "serial"
    assert room.left(rows) == 10 * 500


def sequence(request_id: str, length: int) -> Sequence:
    return Sequence(submit(request_id, length), arrived=0.0)
