"""When a step is said to take too long, and who says so."""

from __future__ import annotations

import socket
import threading

import pytest

from omlx.server.engine.engine import Engine
from omlx.server.engine.messages import Alive, RankMemory, Submit
from omlx.server.engine.ranks.control import Meeting, Members, Membership
from omlx.server.engine.ranks.leader import LeaderBatch
from omlx.server.engine.ranks.progress import PIECE_SECONDS, Progress, State
from omlx.server.engine.ranks.warming import warm_up
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.engine.speculation import Draft

from ..scripted_batch import ScriptedBatch
from .nobody import Nobody


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _take(progress: Progress, clock: _Clock, seconds: float, *kind: str | int) -> float:
    """A step of so many seconds, in which no rank stands still; how long it was overdue at its end."""
    with progress.step(*kind):
        clock.now += seconds
        return progress.overdue_seconds(stands_still=False)


def _stall(progress: Progress, clock: _Clock, seconds: float, *kind: str | int) -> float:
    """`_take`, with a rank that stands still."""
    with progress.step(*kind):
        clock.now += seconds
        return progress.overdue_seconds(stands_still=True)


def _warmed_up(clock: _Clock, seconds: float = 0.1) -> Progress:
    """A group's progress as it begins to serve: the first step of all took a minute, later ones so many seconds."""
    progress = Progress(clock)
    with progress.warms_up():
        for taken in (60, seconds, seconds):
            assert _take(progress, clock, taken, "decode", 0) == _stall(progress, clock, 0, "sleep") == 0
    return progress


def test_a_warm_up_may_take_long_and_the_first_step_served_four_seconds() -> None:
    progress = Progress(clock := _Clock())
    with progress.warms_up():
        assert _stall(progress, clock, 599, "decode", 0) == 0
        assert _stall(progress, clock, 601, "decode", 1) > 600
        assert _take(progress, clock, 0.1, "decode", 0) == 0
    assert _take(progress, clock, 3.9, "decode", 0) == 0
    progress = _warmed_up(clock)
    assert _take(progress, clock, 4.1, "decode", 0) > 4
    assert progress.overdue_seconds() == 0


def test_the_first_step_of_a_kind_may_take_four_seconds_where_a_rank_stands_still_and_a_minute_where_none_does() -> (
    None
):
    progress = _warmed_up(clock := _Clock())
    assert _take(progress, clock, 59, "prefill", 12, 1) == 0
    assert _stall(progress, clock, 4.1, "prefill", 12, 0) > 4
    assert _take(progress, clock, 61, "prefill", 12, 2) > 60


def test_on_a_slow_group_a_step_of_a_new_kind_may_take_eight_times_the_slowest_of_any_kind() -> None:
    progress = _warmed_up(clock := _Clock(), 1.5)
    assert _stall(progress, clock, 11.9, "prefill", 12, 0) == 0
    assert _stall(progress, clock, 12.1, "prefill", 12, 1) > 12
    assert _stall(progress, clock, 4.1, "sleep") > 4  # it has times of its own


def test_a_slow_first_step_of_a_kind_says_nothing_of_the_next_and_a_quick_one_does() -> None:
    progress = _warmed_up(clock := _Clock())
    assert _take(progress, clock, 30, "prefill", 12, 0) == 0
    assert _take(progress, clock, 0.4, "prefill", 12, 1) == 0
    assert _stall(progress, clock, 4.1, "prefill", 12, 2) > 4
    assert _take(progress, clock, 59, "prefill", 12, 0) == 0
    assert _take(progress, clock, 4.1, "prefill", 12, 1) > 4


def test_long_steps_before_raise_what_the_next_of_their_kind_may_take() -> None:
    progress = _warmed_up(clock := _Clock())
    for _ in range(8):
        assert _take(progress, clock, 1.5, "decode", 0) == 0
    assert _take(progress, clock, 11.9, "decode", 0) == 0
    assert _take(progress, clock, 96, "decode", 0) > 0
    assert _stall(progress, clock, 4.1, "sleep") > 4


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
        assert self.progress.overdue_seconds() == 0
        if token_ids:
            self.clock.now += self.stalls
            self.overdue_seconds = self.progress.overdue_seconds()
        return token_ids

    def draft(self) -> dict[str, Draft]:
        return {}

    def decode(self, drafts: object = None) -> dict[str, list[int]]:
        del drafts
        self.clock.now += 0.01
        return super().decode()


class _ScratchBatch(_TimedBatch):
    """The same, for its warm-up: no prefix is kept."""

    def __init__(self, batch: _TimedBatch) -> None:
        super().__init__(batch._seconds)
        self.clock, self.progress, self._met = batch.clock, batch.progress, batch._met

    def match(self, request: Submit) -> int:
        del request
        return 0


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
    """Rank 0's, warm, with the limits of a group."""
    with batch.progress.warms_up():
        warm_up(LeaderBatch(_ScratchBatch(batch), lambda _: None, Nobody(), batch.progress), batch.clock)
    leader = LeaderBatch(batch, lambda _: None, Nobody(), batch.progress)
    return Engine(Scheduler(SchedulerLimits(max_chunk_seconds=PIECE_SECONDS)), leader, batch.clock)


class _ReadingBatch(ScriptedBatch):
    """Reads a prefix of a hundred pieces, each as slow as may be, and stops for a while before the last one."""

    def __init__(self) -> None:
        super().__init__([[5, 0]])
        self.clock = _Clock()
        self.progress = _warmed_up(self.clock)
        self.stalls = 0.0
        self.overdue_seconds = 0.0

    def open(self, request: Submit) -> int:
        for _ in range(100):
            self.clock.now += 3.9
            assert self.progress.overdue_seconds() == 0
            self.progress.go_on()
        self.clock.now += self.stalls
        self.overdue_seconds = self.progress.overdue_seconds()
        return super().open(request)

    def draft(self) -> dict[str, Draft]:
        return {}

    def decode(self, drafts: object = None) -> dict[str, list[int]]:
        del drafts
        return super().decode()


def test_a_prefix_that_comes_slowly_from_the_disk_is_no_stall_and_one_that_stops_is() -> None:
    batch = _ReadingBatch()
    leader = LeaderBatch(batch, lambda _: None, Nobody(), batch.progress)
    leader.open(Submit("slow", [1, 2, 3], 1))
    assert batch.overdue_seconds == 0
    batch.stalls = 4.1
    leader.open(Submit("stuck", [1, 2, 3], 1))
    assert batch.overdue_seconds > 4


class _Hearing(Progress):
    """Says that it has heard of another rank's."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__(clock)
        self.heard = threading.Event()

    def hear_other(self) -> None:
        super().hear_other()
        self.heard.set()


def test_rank_0_hears_that_another_rank_goes_on_within_a_step() -> None:
    ours, theirs, told = _Hearing(clock := _Clock()), Progress(), list[str]()
    listener = socket.create_server(("127.0.0.1", 0))
    members = Members(listener, 2, RankMemory, ours, told.append, told.append)
    meeting = threading.Thread(target=members.meet, args=(60,), daemon=True)
    meeting.start()
    address: tuple[str, int] = listener.getsockname()
    membership = Membership(Meeting(*address, members.token), 1, RankMemory, theirs, told.append)
    meeting.join(60)
    with ours.step():
        for _ in range(3):
            ours.heard.clear()
            clock.now += 3.9
            theirs.go_on()
            assert ours.heard.wait(60)
        assert ours.overdue_seconds() == 0
    membership.close()
    members.close()
    assert told == []


@pytest.mark.parametrize(("usual", "kind", "patience"), [(0.1, "seen", 4), (4, "seen", 6), (4, "unseen", 6)])
def test_streams_wait_for_four_seconds_or_half_again_what_steps_take_and_are_told_once(
    usual: float, kind: str, patience: float
) -> None:
    progress = Progress(clock := _Clock())
    for _ in range(3):
        _take(progress, clock, usual, "seen")
    assert progress.stalled_seconds() == 0
    with progress.step(kind):
        clock.now += patience - 0.1
        assert progress.stalled_seconds() == 0
        clock.now += 0.2
        assert progress.stalled_seconds() > patience
        assert progress.stalled_seconds() == 0
        assert (progress.overdue_seconds(stands_still=False) > 0) is (usual == 0.1)


def test_nobody_waits_for_what_is_loaded_or_warmed_up() -> None:
    progress = Progress(clock := _Clock())
    with progress.loads():
        clock.now += 200
        assert progress.stalled_seconds() == 0
    with progress.warms_up(), progress.step("decode"):
        clock.now += 200
        assert progress.stalled_seconds() == 0


def test_where_all_ranks_wait_in_a_step_all_are_named() -> None:
    ours, theirs, told = Progress(clock := _Clock()), Progress(), list[str]()
    listener, stalled = socket.create_server(("127.0.0.1", 0)), threading.Event()
    address: tuple[str, int] = listener.getsockname()

    def note(reason: str) -> None:
        told.append(reason)
        stalled.set()

    def wait() -> None:
        clock.now = 5
        stalled.wait(60)

    members = Members(listener, 2, RankMemory, ours, print, note)
    meeting = threading.Thread(target=members.meet, args=(60,), daemon=True)
    meeting.start()
    membership = Membership(Meeting(*address, members.token), 1, RankMemory, theirs, print)
    meeting.join(60)
    with ours.step():
        ours.while_waiting(theirs.while_waiting(wait))()
    membership.close()
    members.close()
    assert told == [f"rank 1 ({socket.gethostname()}) or rank 0 got no further for 5 seconds; try again"]


def test_what_nobody_waits_for_may_take_a_minute_and_four_seconds_more_once_somebody_does() -> None:
    progress = _warmed_up(clock := _Clock())
    with progress.errand():
        clock.now += 50
        assert progress.overdue_seconds() == 0
        progress.hear_server(Submit("a", [1], 1))
        clock.now += 3.9
        assert progress.overdue_seconds() == 0
        clock.now += 0.2
        assert progress.overdue_seconds() > 4
    with progress.errand():
        clock.now += 59
        assert progress.overdue_seconds() == 0
        clock.now += 2
        assert progress.overdue_seconds() > 60
    assert _stall(progress, clock, 3.9, "decode", 0) == 0  # and it tells nothing of steps


def _hear(progress: Progress, clock: _Clock, times: int) -> None:
    for _ in range(times):
        clock.now += 0.5
        progress.hear_server(Alive())


def test_rank_0_stands_still_where_it_does_nothing_while_its_server_is_heard_for_four_seconds() -> None:
    progress = Progress(clock := _Clock())
    _hear(progress, clock, 1000)  # it loads
    assert not progress.stands_still
    for _ in range(3):
        progress.turn()
        _hear(progress, clock, 7)
        assert not progress.stands_still
    with progress.errand():
        _hear(progress, clock, 100)
        assert not progress.stands_still
    _hear(progress, clock, 7)
    clock.now += 19  # it is the server that stands still, and may keep this process from going on
    assert not progress.stands_still
    _hear(progress, clock, 1)
    assert progress.stands_still


def test_rank_0_does_not_stand_still_while_it_looks_up_many_prompts_between_two_steps() -> None:
    batch = _TimedBatch(1e-3)
    leader = LeaderBatch(batch, lambda _: None, Nobody(), batch.progress)
    for name in "abc":
        leader.match(Submit(name, [1, 2, 3], 1))
        _hear(batch.progress, batch.clock, 7)
        assert not batch.progress.stands_still
    _hear(batch.progress, batch.clock, 1)
    assert batch.progress.stands_still


def test_a_load_may_take_five_minutes_a_piece_and_what_follows_it_is_not_judged_by_the_server() -> None:
    progress = Progress(clock := _Clock())
    with progress.loads():
        for _ in range(3):
            clock.now += 299
            assert progress.overdue_seconds(stands_still=True) == 0
            progress.go_on()
        clock.now += 301
        assert progress.overdue_seconds(stands_still=True) == 301
        assert progress.overdue_seconds(stands_still=False) == 0  # kernels may be compiled
        clock.now += 300
        assert progress.overdue_seconds(stands_still=False) == 601
    _hear(progress, clock, 20)
    assert not progress.stands_still


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
