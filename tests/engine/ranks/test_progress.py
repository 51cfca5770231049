"""When a step is said to take too long, and who says so."""

from __future__ import annotations

import pytest

from omlx.server.engine.engine import Engine
from omlx.server.engine.messages import RankMemory, Submit
from omlx.server.engine.ranks.leader import LeaderBatch
from omlx.server.engine.ranks.progress import PIECE_SECONDS, Progress, State
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.engine.speculation import Draft

from ..scripted_batch import ScriptedBatch


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _take(progress: Progress, clock: _Clock, seconds: float, *kind: str | int) -> float:
    """A step of so many seconds; how long it was overdue at its end."""
    with progress.step(*kind):
        clock.now += seconds
        return progress.overdue_seconds


def _warm(progress: Progress, clock: _Clock, *kind: str | int) -> None:
    for _ in range(32):
        assert _take(progress, clock, 0.1, *kind) == 0


def test_a_first_step_may_take_a_minute_and_a_stalled_one_later_four_seconds() -> None:
    progress = Progress(clock := _Clock())
    assert _take(progress, clock, 59) == 0
    _warm(progress, clock)
    assert progress.limit_seconds() == 4
    assert _take(progress, clock, 3.9) == 0
    _warm(progress, clock)
    assert _take(progress, clock, 4.1) > 4
    assert progress.overdue_seconds == 0


def test_the_first_two_steps_of_a_kind_may_take_a_minute_and_count_for_no_other_kind() -> None:
    progress = Progress(clock := _Clock())
    _warm(progress, clock, "decode", 0)
    assert _take(progress, clock, 59, "prefill", 12, 0) == 0
    assert _take(progress, clock, 0.3, "prefill", 12, 0) == 0
    assert progress.limit_seconds("prefill", 12, 0) == progress.limit_seconds("decode", 0) == 4
    assert _take(progress, clock, 61, "prefill", 12, 1) == 61


def test_long_steps_before_raise_what_the_next_of_their_kind_may_take() -> None:
    progress = Progress(clock := _Clock())
    for _ in range(40):
        assert _take(progress, clock, 1.5) == 0
    assert _take(progress, clock, 11.9) == 0
    assert _take(progress, clock, 96) > 0


class _Nobody:
    """The other ranks of a group of one."""

    def memory(self) -> list[RankMemory]:
        return []

    def wake(self) -> None: ...

    def lost(self) -> str:
        return ""

    def close(self) -> None: ...


class _TimedBatch(ScriptedBatch):
    """Takes `seconds` for a token of a prompt and as long again for every 16,384 tokens before it, and a second more
    for a size that it meets for the first time. It `stalls` for so long in the last piece."""

    def __init__(self, seconds: float) -> None:
        super().__init__([[5, 0]])
        self.clock = _Clock()
        self.progress = Progress(self.clock)
        self.stalls = 0.0
        self.overdue_seconds = 0.0
        self._seconds = seconds
        self._met: set[int] = set()

    def prefill(self, request_id: str, count: int) -> list[int]:
        before = self._positions[request_id]
        self.clock.now += count * self._seconds * (1 + before / 16384) + (count not in self._met)
        self._met.add(count)
        token_ids = super().prefill(request_id, count)
        assert self.progress.overdue_seconds == 0
        if token_ids:
            self.clock.now += self.stalls
            self.overdue_seconds = self.progress.overdue_seconds
        return token_ids

    def draft(self) -> dict[str, Draft]:
        return {}

    def decode(self, drafts: object = None) -> dict[str, list[int]]:
        del drafts
        self.clock.now += 0.01
        return super().decode()


def _answer(engine: Engine, name: str, length: int) -> None:
    engine.submit(Submit(name, [ord(name)] * length, 40))
    while engine.has_work:
        engine.step()


@pytest.mark.parametrize("tokens_a_second", [20_000, 2000, 1000, 100, 20])
def test_long_prompts_on_a_fast_or_a_slow_group_are_no_stall(tokens_a_second: int) -> None:
    batch = _TimedBatch(1 / tokens_a_second)
    engine = _engine(batch)
    for name, length in zip("abcdef", (20, 3000, 20_000, 7, 40_000, 10_000), strict=True):
        _answer(engine, name, length)


@pytest.mark.parametrize("tokens_a_second", [20_000, 2000, 1000])
def test_a_stalled_piece_is_noticed_in_four_seconds_where_a_small_one_takes_under_half_a_second(
    tokens_a_second: int,
) -> None:
    batch = _TimedBatch(1 / tokens_a_second)
    engine = _engine(batch)
    for name in "abcdef":
        _answer(engine, name, 9216)
    batch.stalls = 4.01
    _answer(engine, "g", 9216)
    assert batch.overdue_seconds > 4


def _engine(batch: _TimedBatch) -> Engine:
    """Rank 0's, with the limits of a group."""
    leader = LeaderBatch(batch, lambda _: None, _Nobody(), batch.progress)
    return Engine(Scheduler(SchedulerLimits(max_chunk_seconds=PIECE_SECONDS)), leader, batch.clock)


def test_what_reads_from_disk_has_its_own_limit_and_counts_for_no_other() -> None:
    progress = Progress(clock := _Clock())
    for _ in range(32):
        _take(progress, clock, 0.1)
    with progress.long_step(60):
        clock.now += 50
        assert progress.overdue_seconds == 0
        clock.now += 11
        assert progress.overdue_seconds == 61
    assert progress.limit_seconds() == 4


def _hear(progress: Progress, clock: _Clock, times: int) -> None:
    for _ in range(times):
        clock.now += 0.5
        progress.hear_server()


def test_rank_0_stands_still_where_it_does_nothing_while_its_server_is_heard_for_four_seconds() -> None:
    progress = Progress(clock := _Clock())
    _hear(progress, clock, 1000)  # it loads
    assert not progress.stands_still
    for _ in range(3):
        progress.turn()
        _hear(progress, clock, 7)
        assert not progress.stands_still
    with progress.long_step(60):
        _hear(progress, clock, 100)
        assert not progress.stands_still
    _hear(progress, clock, 7)
    clock.now += 19  # it is the server that stands still, and may keep this process from going on
    assert not progress.stands_still
    _hear(progress, clock, 1)
    assert progress.stands_still


def test_rank_0_does_not_stand_still_while_it_looks_up_many_prompts_between_two_steps() -> None:
    batch = _TimedBatch(1e-3)
    leader = LeaderBatch(batch, lambda _: None, _Nobody(), batch.progress)
    for name in "abc":
        leader.match(Submit(name, [1, 2, 3], 1))
        _hear(batch.progress, batch.clock, 7)
        assert not batch.progress.stands_still
    _hear(batch.progress, batch.clock, 1)
    assert batch.progress.stands_still


def test_a_server_that_says_nothing_more_is_noticed_after_twenty_seconds() -> None:
    progress = Progress(clock := _Clock())
    clock.now += 1000
    assert progress.server_silent_seconds == 0
    _hear(progress, clock, 1)
    clock.now += 20
    assert progress.server_silent_seconds == 0
    clock.now += 1
    assert progress.server_silent_seconds == 21
    _hear(progress, clock, 1)
    assert progress.server_silent_seconds == 0


def test_who_waits_for_another_rank_says_so_and_who_stands_still() -> None:
    progress = Progress(clock := _Clock())
    assert progress.while_waiting(lambda: progress.state)() is State.WAITING
    clock.now += 1000
    assert progress.state is State.STILL
