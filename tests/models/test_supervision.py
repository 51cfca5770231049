"""A dead engine is started again, unless that has been of no use."""

from __future__ import annotations

from omlx.server.models.supervision import Supervision


def test_a_death_after_a_long_life_is_followed_by_a_new_engine():
    supervision = Supervision()
    assert all(supervision.died("a", "it crashed", ready_seconds=3600) for _ in range(10))
    assert supervision.failed == {"a": "it crashed"}
    supervision.ready("a")
    assert supervision.failed == {}


def test_three_fast_deaths_in_a_row_stop_a_model_and_say_why():
    supervision = Supervision()
    assert [supervision.died("a", "it crashed", ready_seconds=1) for _ in range(3)] == [True, True, False]
    assert supervision.is_stopped("a")
    assert not supervision.is_stopped("b")
    assert "3 times in a row, at last because it crashed" in supervision.failed["a"]
    assert "then load it again on the dashboard's Models page, or restart omlx" in supervision.failed["a"]


def test_a_long_life_between_makes_it_no_row():
    supervision = Supervision()
    for ready_seconds in (1, 1, 3600, 1, 1):
        assert supervision.died("a", "it crashed", ready_seconds)


def test_a_long_life_that_was_asked_to_end_makes_it_no_row_either():
    supervision = Supervision()
    for _ in range(2):
        supervision.died("a", "it crashed", ready_seconds=1)
    supervision.ended("a", ready_seconds=3600)
    assert supervision.died("a", "it crashed", ready_seconds=1)


def test_a_short_life_that_was_asked_to_end_says_nothing():
    supervision = Supervision()
    for _ in range(2):
        supervision.died("a", "it crashed", ready_seconds=1)
    supervision.ended("a", ready_seconds=1)
    assert not supervision.died("a", "it crashed", ready_seconds=1)


def test_an_engine_that_never_got_ready_is_tried_again_only_when_it_is_asked_for():
    supervision = Supervision()
    assert not supervision.died("a", "bad weights", ready_seconds=0)
    assert not supervision.is_stopped("a")


def test_an_engine_that_may_load_the_next_time_is_tried_again_until_three_did_not():
    supervision = Supervision()
    deaths = [supervision.died("a", "rank 1 has ended", ready_seconds=0, may_load=True) for _ in range(3)]
    assert deaths == [True, True, False]


def test_a_stopped_model_that_is_forgiven_may_be_tried_again():
    supervision = Supervision()
    for _ in range(3):
        supervision.died("a", "it crashed", ready_seconds=1)
    supervision.forgive("a")
    assert not supervision.is_stopped("a")
    assert supervision.failed == {}


def test_what_follows_on_a_death_is_told_with_how_many_there_were():
    supervision = Supervision("start it")
    assert supervision.outlook("a", try_again=supervision.died("a", "it crashed", 3600)) == "It is started again"
    told = [supervision.outlook("a", try_again=supervision.died("a", "it crashed", 1)) for _ in range(3)]
    assert told[:2] == [f"It is started again: quick death {number} of 3" for number in (1, 2)]
    assert told[2].startswith("a was stopped: its engine died 3 times")
    assert told[2].endswith("then start it")
    never_ready = supervision.outlook("b", try_again=supervision.died("b", "bad weights", 0))
    assert never_ready == "The next request for it starts another"
