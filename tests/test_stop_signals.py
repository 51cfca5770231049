"""A server that is told to stop ends with code 0 and without a traceback, whenever that is."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

from omlx.server.stop_signals import Stopped, StopSignals, held_back

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Those of a process that nobody has started under nohup."""
    before = {number: signal.getsignal(number) for number in STOPS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
def test_before_the_server_runs_the_first_signal_ends_it_with_code_0_and_no_other_disturbs_that(number: signal.Signals):
    signals = StopSignals()
    signals.catch()
    with pytest.raises(Stopped) as stopped:
        signal.raise_signal(number)
    assert (stopped.value.code, stopped.value.name) == (0, number.name)
    for another in STOPS:
        signal.raise_signal(another)


def test_who_runs_hears_of_every_signal_and_of_one_that_was_lost_before():
    heard: list[int] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    signals = StopSignals()
    signals.catch()
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)
    signals.pass_on(hear)
    signal.raise_signal(signal.SIGINT)
    assert heard == [signal.SIGTERM, signal.SIGINT]


def test_a_terminal_that_closes_stops_it_once_and_not_at_all_under_nohup():
    heard: list[int] = []
    signals = StopSignals()
    signals.catch()
    signals.pass_on(lambda number, _frame: heard.append(number))
    for _ in range(2):
        signal.raise_signal(signal.SIGHUP)
    assert heard == [signal.SIGHUP]
    signals.catch()
    signal.raise_signal(signal.SIGHUP)
    assert heard == [signal.SIGHUP]


def test_at_the_end_none_changes_the_code():
    signals = StopSignals()
    signals.catch()
    signals.ignore()
    for number in STOPS:
        signal.raise_signal(number)


@pytest.mark.parametrize("number", STOPS)
def test_a_process_that_was_started_while_they_are_held_back_gets_them_once_it_can_hear(number: signal.Signals):
    script = (
        "import sys; sys.stdin.readline(); from omlx.server.stop_signals import *; signals = StopSignals();"
        "print('imported', flush=True); signals.catch(); print('went on')"
    )
    with held_back():
        child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.send_signal(number)
    assert child.communicate(b"\n", timeout=60)[0].split() == [b"imported"]
    assert child.returncode == 0
    assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
