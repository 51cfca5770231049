"""The scheduler's order and chunk sizes, on numbers alone."""

from __future__ import annotations

import pytest

from omlx.server.engine.messages import Submit
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.engine.sequence import Sequence


def add(scheduler: Scheduler, request_id: str, length: int, now: float = 0.0, cached: int = 0, **rest) -> Sequence:
    first = sum(map(ord, request_id)) * 1000
    sequence = scheduler.add(Submit(request_id, list(range(first, first + length)), 10, **rest), cached, now)
    assert sequence is not None
    return sequence


def chosen(scheduler: Scheduler, now: float = 0.0) -> str:
    sequence = scheduler.schedule(now).prefill
    assert sequence is not None
    return sequence.request_id


def finish_prompt(scheduler: Scheduler, sequence: Sequence) -> None:
    scheduler.start(sequence, 0)
    sequence.num_computed_tokens = sequence.num_prompt_tokens


def test_the_shortest_remaining_prompt_goes_first():
    scheduler = Scheduler(SchedulerLimits())
    add(scheduler, "long", 2000)
    add(scheduler, "short", 100)
    assert chosen(scheduler) == "short"


def test_what_is_cached_already_counts_as_done():
    scheduler = Scheduler(SchedulerLimits())
    add(scheduler, "new", 300)
    add(scheduler, "known", 4000, cached=3900)
    assert chosen(scheduler) == "known"


def test_a_started_prompt_is_finished_before_an_equal_one():
    scheduler = Scheduler(SchedulerLimits())
    first = add(scheduler, "first", 1000)
    add(scheduler, "second", 1000)
    scheduler.start(first, 0)
    first.num_computed_tokens = 256
    assert chosen(scheduler) == "first"


def test_a_long_prompt_is_not_starved_by_a_stream_of_short_ones():
    scheduler = Scheduler(SchedulerLimits())
    scheduler.observe_prefill(1000, 1.0)
    add(scheduler, "long", 4000, now=0.0)
    add(scheduler, "short", 100, now=17.0)
    assert chosen(scheduler, now=17.0) == "long"


def test_background_requests_yield_to_all_others():
    scheduler = Scheduler(SchedulerLimits())
    add(scheduler, "title", 50, background=True)
    add(scheduler, "chat", 5000)
    assert chosen(scheduler) == "chat"


def test_a_prompt_waits_for_another_that_is_computing_its_prefix():
    scheduler = Scheduler(SchedulerLimits())
    prefix = list(range(3000))
    first = scheduler.add(Submit("first", [*prefix, *range(10_000, 10_500)], 5), 0, 0.0)
    assert first is not None
    scheduler.start(first, 0)
    scheduler.add(Submit("second", [*prefix, 9], 5), 0, 0.0)
    assert chosen(scheduler) == "first"
    first.num_computed_tokens = 3072
    assert chosen(scheduler) == "first"  # 428 left
    second = scheduler.waiting[0]
    second.num_cached_tokens = 3000
    assert chosen(scheduler) == "second"


def test_rows_that_decode_do_not_wait_for_the_disk():
    scheduler = Scheduler(SchedulerLimits())
    from_disk = add(scheduler, "from disk", 50)
    from_disk.is_fetched = False
    add(scheduler, "other", 100)
    assert chosen(scheduler) == "from disk"  # nobody else would do anything meanwhile
    finish_prompt(scheduler, add(scheduler, "decoding", 10))
    assert chosen(scheduler) == "other"
    from_disk.is_fetched = True
    assert chosen(scheduler) == "from disk"


def test_prefixes_come_up_from_the_disk_in_the_order_of_who_comes_first_and_for_prompts_that_could_be_opened():
    scheduler = Scheduler(SchedulerLimits(max_num_seqs=2))
    assert not scheduler.fetching(0.0)
    title = scheduler.add(Submit("title", [1], 5, background=True), 0, 0.0)
    long, short, here = (add(scheduler, name, length) for name, length in (("long", 99), ("short", 9), ("here", 50)))
    assert title is not None
    for sequence in (title, long, short):
        sequence.is_fetched = False
    assert scheduler.fetching(0.0) == [short, long, title]
    short.is_fetched = True
    assert scheduler.fetching(0.0) == [long, title]
    for sequence in (short, here):
        finish_prompt(scheduler, sequence)
    assert not scheduler.fetching(0.0)  # no row is free


def test_prompts_under_different_salts_do_not_wait_for_each_other():
    scheduler = Scheduler(SchedulerLimits())
    first = scheduler.add(Submit("first", list(range(3000)), 5, cache_salt="a"), 0, 0.0)
    assert first is not None
    scheduler.start(first, 0)
    scheduler.add(Submit("second", list(range(2000)), 5, cache_salt="b"), 0, 0.0)
    assert chosen(scheduler) == "second"


def test_no_more_sequences_run_than_the_limit():
    scheduler = Scheduler(SchedulerLimits(max_num_seqs=1))
    finish_prompt(scheduler, add(scheduler, "running", 10))
    add(scheduler, "waiting", 10)
    output = scheduler.schedule(0.0)
    assert output.prefill is None
    assert [sequence.request_id for sequence in output.decode] == ["running"]


def test_a_full_waiting_queue_takes_nothing_more():
    scheduler = Scheduler(SchedulerLimits(max_num_waiting=1))
    add(scheduler, "a", 10)
    assert scheduler.add(Submit("b", [1], 5), 0, 0.0) is None


@pytest.mark.parametrize(("computed", "expected"), [(0, 256), (256, 256), (300, 212), (900, 100)])
def test_chunks_end_on_the_grid_or_at_the_prompts_end(computed: int, expected: int):
    scheduler = Scheduler(SchedulerLimits(max_chunk=256))
    sequence = add(scheduler, "a", 1000)
    scheduler.start(sequence, computed)
    assert scheduler.chunk(sequence, decoding=False) == expected


def test_an_idle_engine_computes_large_chunks_as_far_as_its_speed_allows():
    scheduler = Scheduler(SchedulerLimits(idle_seconds=1.0))
    sequence = add(scheduler, "a", 10_000)
    scheduler.start(sequence, 0)
    scheduler.observe_prefill(1000, 0.9)
    assert scheduler.chunk(sequence, decoding=False) == 1024


def test_no_chunk_takes_longer_than_any_may_unless_it_is_the_smallest():
    scheduler = Scheduler(SchedulerLimits(max_chunk_seconds=0.4))
    sequence = add(scheduler, "a", 10_000)
    scheduler.start(sequence, 0)
    scheduler.observe_prefill(2048, 0.4)
    scheduler.observe_decode(1.0)
    assert scheduler.chunk(sequence, decoding=False) == scheduler.chunk(sequence, decoding=True) == 2048
    scheduler.observe_prefill(2048, 0.9)  # far into a long prompt: believed at once
    assert scheduler.chunk(sequence, decoding=False) == scheduler.chunk(sequence, decoding=True) == 512
    scheduler.observe_prefill(512, 30)
    assert scheduler.chunk(sequence, decoding=False) == 256


def test_beside_decoding_rows_a_chunk_keeps_to_the_latency_target():
    scheduler = Scheduler(SchedulerLimits(decode_gap_seconds=0.2, decode_gap_steps=4))
    sequence = add(scheduler, "a", 10_000)
    scheduler.start(sequence, 0)
    scheduler.observe_prefill(1000, 2.0)
    scheduler.observe_decode(0.01)
    assert scheduler.chunk(sequence, decoding=True) == 64
    scheduler.observe_decode(1.0)
    assert scheduler.chunk(sequence, decoding=True) == 512


def test_a_piece_that_kept_decoding_rows_waiting_too_long_is_followed_by_smaller_ones_of_its_prompt():
    scheduler = Scheduler(SchedulerLimits(decode_gap_seconds=0.2))
    long, other = add(scheduler, "long", 10_000), add(scheduler, "other", 10_000)
    for sequence in (long, other):
        scheduler.start(sequence, 0)
    scheduler.observe_prefill(256, 0.1)
    assert scheduler.chunk(long, decoding=True) == 512
    scheduler.observe_piece(long, 512, 0.5, decoding=True)
    assert scheduler.chunk(long, decoding=True) == 256
    scheduler.observe_piece(long, 256, 0.3, decoding=True)
    assert scheduler.chunk(long, decoding=True) == 128
    assert scheduler.chunk(other, decoding=True) >= 256
    assert scheduler.chunk(long, decoding=False) >= 1024
    assert scheduler.chunk(long, decoding=True) == 128
    scheduler.observe_piece(long, 20, 0.9, decoding=True)  # a short rest tells nothing of whole pieces
    scheduler.observe_piece(long, 20, 0.01, decoding=True)
    assert scheduler.chunk(long, decoding=True) == 128
    scheduler.observe_piece(long, 128, 0.07, decoding=True)
    assert scheduler.chunk(long, decoding=True) == 256


def company(scheduler: Scheduler, first: Sequence, decoding: bool = False) -> list[str]:
    scheduler.start(first, first.num_cached_tokens)
    return [sequence.request_id for sequence in scheduler.company(first, decoding, 0.0)]


def test_short_prompts_are_computed_together():
    scheduler = Scheduler(SchedulerLimits())
    first = add(scheduler, "a", 100)
    add(scheduler, "b", 120)
    add(scheduler, "c", 2040, cached=2000)
    assert company(scheduler, first) == ["c", "b"]


def test_no_prompt_is_padded_by_more_than_a_pass_of_its_own_would_cost():
    scheduler = Scheduler(SchedulerLimits())
    first = add(scheduler, "a", 20)
    add(scheduler, "b", 80)
    add(scheduler, "c", 200)
    assert company(scheduler, first) == ["b"]


def test_whole_blocks_are_computed_alone():
    scheduler = Scheduler(SchedulerLimits())
    first = add(scheduler, "a", 256)
    add(scheduler, "b", 100)
    assert company(scheduler, first) == []
    first = add(scheduler, "c", 99)
    add(scheduler, "d", 300, cached=200)
    assert company(scheduler, first) == ["b"]


def test_no_short_prompt_overtakes_a_long_one_for_company():
    scheduler = Scheduler(SchedulerLimits())
    scheduler.observe_prefill(1000, 1.0)
    first = add(scheduler, "a", 100, now=-30.0)
    add(scheduler, "long", 4000, now=-20.0)
    add(scheduler, "b", 100)
    assert company(scheduler, first) == []


def test_a_prompt_that_another_computes_the_beginning_of_is_left_for_later():
    scheduler = Scheduler(SchedulerLimits())
    first = add(scheduler, "a", 100)
    for name in ("again", "other"):
        added = scheduler.add(Submit(name, [*first.request.token_ids, 7], 10), 0, 0.0)
        assert added is not None
    add(scheduler, "b", 100)
    assert company(scheduler, first) == ["b"]


def test_company_is_bounded_in_tokens_rows_and_time():
    def many(limits: SchedulerLimits, seconds: float = 0.0, decoding: bool = False) -> int:
        scheduler = Scheduler(limits)
        if seconds:
            scheduler.observe_prefill(1000, 1000 * seconds)
        first = add(scheduler, "first", 100)
        for number in range(20):
            add(scheduler, f"r{number}", 100)
        return 1 + len(company(scheduler, first, decoding))

    assert many(SchedulerLimits()) == 10
    assert many(SchedulerLimits(max_num_seqs=4)) == 4
    assert many(SchedulerLimits(), seconds=1 / 2000, decoding=True) == 4
    assert many(SchedulerLimits(), seconds=1 / 500) == 5


def test_rows_that_decode_wait_for_no_disk_for_company():
    scheduler = Scheduler(SchedulerLimits())
    first = add(scheduler, "a", 100)
    add(scheduler, "b", 100).is_fetched = False
    add(scheduler, "c", 100)
    assert company(scheduler, first) == ["c"]
