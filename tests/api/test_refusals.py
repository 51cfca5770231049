"""The log tells of what is refused, in few lines whatever comes."""

from __future__ import annotations

import logging

import pytest

from omlx.server.api.refusals import Refusals, Refused

HOUR = 3600


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def refusals(clock: Hand) -> Refusals:
    return Refusals(clock)


def test_the_first_is_told_at_once_and_the_others_with_their_number_when_a_minute_is_over(
    refusals: Refusals, clock: Hand, caplog: pytest.LogCaptureFixture
):
    for number in range(4):
        refusals.note(Refused.WRONG_KEY, f"10.0.0.{number}")
    refusals.tell()
    assert caplog.messages == ["Refused a wrong key, from 10.0.0.0"]
    clock.now = 61.0
    refusals.tell()
    refusals.tell()
    assert caplog.messages[1:] == ["Refused a wrong key 3 more times in 61 s, last from 10.0.0.3"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_each_kind_is_told_for_itself(refusals: Refusals, caplog: pytest.LogCaptureFixture):
    for kind in Refused:
        refusals.note(kind, "10.0.0.1")
    assert caplog.messages == [f"Refused {kind}, from 10.0.0.1" for kind in Refused]


def test_after_a_time_without_any_the_next_is_told_at_once_again(
    refusals: Refusals, clock: Hand, caplog: pytest.LogCaptureFixture
):
    refusals.note(Refused.NO_KEY, "10.0.0.1")
    clock.now = 60.0
    refusals.tell()
    assert len(caplog.messages) == 1
    refusals.note(Refused.NO_KEY, "10.0.0.2")
    assert caplog.messages[1:] == ["Refused no key, from 10.0.0.2"]


def test_what_is_not_told_yet_is_told_at_the_end(refusals: Refusals, caplog: pytest.LogCaptureFixture):
    for _ in range(3):
        refusals.note(Refused.HOST, "10.0.0.1")
    refusals.tell(all_of_them=True)
    assert caplog.messages[1:] == ["Refused a foreign Host 2 more times in 0 s, last from 10.0.0.1"]


def test_a_day_of_refusals_is_a_line_an_hour(refusals: Refusals, clock: Hand, caplog: pytest.LogCaptureFixture):
    for second in range(24 * HOUR):
        clock.now = float(second)
        refusals.note(Refused.WRONG_KEY, "10.0.0.1")
        refusals.tell()
    assert 24 < len(caplog.messages) < 24 + 8
