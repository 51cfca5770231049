"""When a step is said to take too long, and who says so."""

from __future__ import annotations

from omlx.server.engine.ranks.progress import Progress, State


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _take(progress: Progress, clock: _Clock, seconds: float) -> float:
    """A step of so many seconds; how long it was overdue at its end."""
    with progress.step():
        clock.now += seconds
        return progress.overdue_seconds


def test_a_first_step_may_take_a_minute_and_a_stalled_one_later_four_seconds() -> None:
    progress = Progress(clock := _Clock())
    assert _take(progress, clock, 59) == 0
    for _ in range(32):
        assert _take(progress, clock, 0.1) == 0
    assert progress.limit_seconds == 4
    assert _take(progress, clock, 3.9) == 0
    for _ in range(32):
        _take(progress, clock, 0.1)
    assert _take(progress, clock, 4.1) > 4
    assert progress.overdue_seconds == 0


def test_long_chunks_before_raise_what_the_next_may_take() -> None:
    progress = Progress(clock := _Clock())
    for _ in range(40):
        assert _take(progress, clock, 1.5) == 0
    assert _take(progress, clock, 29) == 0


def test_what_reads_from_disk_has_its_own_limit_and_counts_for_no_other() -> None:
    progress = Progress(clock := _Clock())
    for _ in range(32):
        _take(progress, clock, 0.1)
    with progress.long_step(60):
        clock.now += 50
        assert progress.overdue_seconds == 0
        clock.now += 11
        assert progress.overdue_seconds == 61
    assert progress.limit_seconds == 4


def test_who_waits_for_another_rank_says_so_and_who_stands_still() -> None:
    progress = Progress(clock := _Clock())
    assert progress.while_waiting(lambda: progress.state)() is State.WAITING
    clock.now += 1000
    assert progress.state is State.STILL
