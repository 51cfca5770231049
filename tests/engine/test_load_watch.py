"""A load that works is told of, however slow; one that waits is not."""

from __future__ import annotations

import threading
import time

from omlx.server.engine.load_watch import others_worked, telling_of_work

from ..waiting import wait_until


class Work:
    """What the others are said to have done, in seconds, and how often somebody looked."""

    def __init__(self) -> None:
        self.seconds = 7.0
        self.num_looks = 0

    def __call__(self) -> float:
        self.num_looks += 1
        return self.seconds

    def wait_for_looks(self) -> None:
        """Until it was looked at twice, so that what the first look led to is done."""
        before = self.num_looks
        wait_until(lambda: self.num_looks >= before + 3)


class Told:
    """Counts how often it is told; somebody listens until `most` times."""

    def __init__(self, most: int = 1000) -> None:
        self.num_times = 0
        self._most = most

    def __call__(self) -> bool:
        self.num_times += 1
        return self.num_times < self._most


def test_it_is_told_at_once_and_again_only_when_something_was_done():
    told, worked = Told(), Work()
    with telling_of_work(told, 0.001, worked):
        worked.wait_for_looks()
        assert told.num_times == 1
        for num_times in (1, 2):  # little by little
            worked.seconds += 0.004
            worked.wait_for_looks()
            assert told.num_times == num_times
        worked.wait_for_looks()
        assert told.num_times == 2


def test_it_ends_where_nobody_listens_and_with_the_load():
    told = Told(most=1)
    with telling_of_work(told, 0.001, time.monotonic):
        wait_until(lambda: told.num_times == 1)
        wait_until(lambda: "load-watch" not in [thread.name for thread in threading.enumerate()])
    with telling_of_work(told, 3600.0):
        pass
    assert "load-watch" not in [thread.name for thread in threading.enumerate()]


def test_work_is_that_of_the_other_threads():
    found: list[float] = []

    def compute() -> None:
        before = others_worked()
        sum(range(20_000_000))
        found.append(others_worked() - before)

    thread = threading.Thread(target=compute)
    before = others_worked()
    thread.start()
    thread.join()
    seen_from_here = others_worked() - before
    assert seen_from_here > 0.05
    assert found[0] < seen_from_here / 2
