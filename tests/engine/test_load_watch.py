"""A load that works is told of, however slow; one that waits is not."""

from __future__ import annotations

import threading
import time

from omlx.server.engine.load_watch import others_worked, telling_of_work

from ..waiting import wait_until


class Told:
    """Counts how often it is told; somebody listens until `most` times."""

    def __init__(self, most: int = 1000) -> None:
        self.num_times = 0
        self._most = most

    def __call__(self) -> bool:
        self.num_times += 1
        return self.num_times < self._most


def test_it_is_told_at_once_and_again_only_when_something_was_done():
    told, worked = Told(), [7.0]
    with telling_of_work(told, 0.001, lambda: worked[0]):
        wait_until(lambda: told.num_times == 1)
        time.sleep(0.1)
        assert told.num_times == 1
        for _ in range(4):
            worked[0] += 0.004  # little by little
            time.sleep(0.01)
        wait_until(lambda: told.num_times > 1)
        time.sleep(0.1)
        assert told.num_times in (2, 3)


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
