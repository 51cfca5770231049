"""What the rows of the table call lost or wrong."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from . import __main__ as torture
from . import crowd, deaths, leaving, oversize, readers
from .load import Outcome


@pytest.mark.parametrize(
    ("kind", "outcome", "is_fine"),
    [
        ("list", "too many", True),
        ("list", "too long", False),
        ("list", "answered", False),
        ("text", "too long", True),
        ("text", "answered", True),
        ("text", "too many", False),
        ("text", "400: no", False),
    ],
)
def test_a_large_request_is_refused_for_what_it_is(kind: str, outcome: str, is_fine: bool):
    counts = Counter([oversize.judged(kind, outcome), "small answered"])
    assert oversize.faults(counts) == (not is_fine)
    assert oversize.num_asked(counts) == 1


@pytest.mark.parametrize(
    ("num_busy", "num_held", "share", "done", "wrong"),
    [(50, 0, 1.0, 100, 0), (51, 0, 1.0, 100, 1), (100, 0, 0.5, 100, 0), (0, 2, 1.0, 100, 2)],
)
def test_large_requests_that_are_mostly_sent_away_are_wrong(
    monkeypatch: pytest.MonkeyPatch, num_busy: int, num_held: int, share: float, done: int, wrong: int
):
    counts = Counter({"busy": num_busy, "too long": 100 - num_busy, "small answered": 100, "held at the end": num_held})
    monkeypatch.setattr(oversize, "oversize", lambda *_: counts)
    [row] = torture.large_requests(share)
    assert (row.done, row.lost, row.wrong) == (done, 0, wrong)


@pytest.mark.parametrize(
    ("num_answered", "num_held", "share", "wrong"), [(50, 0, 1.0, 0), (49, 0, 1.0, 1), (0, 0, 0.5, 0), (100, 2, 1.0, 2)]
)
def test_a_crowd_that_is_mostly_refused_is_wrong(
    monkeypatch: pytest.MonkeyPatch, num_answered: int, num_held: int, share: float, wrong: int
):
    counts = Counter({"answered": num_answered, "busy": 100 - num_answered, "held at the end": num_held, "deaths": 1})
    monkeypatch.setattr(crowd, "crowd", lambda *_: crowd.Crowd(counts))
    [row] = torture.crowded_prompts(share)
    assert (row.done, row.lost, row.wrong) == (100, 1, wrong)


def test_what_is_held_or_dead_when_clients_have_left_is_told(monkeypatch: pytest.MonkeyPatch):
    loaded = Outcome(Counter({"cut": 9, "engines lost": 1, "wrong": 1}), held={"leases": 2})
    left = leaving.Leaves(counts=Counter({"deaths": 1, "held at the end": 2}))
    monkeypatch.setattr(torture, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(leaving, "leave", lambda _: left)
    rows = [row for row in torture.cancels(0.5) if "held at the end" in row.what]
    assert [(row.done, row.lost, row.wrong) for row in rows] == [(9, 1, 3), (9, 1, 3), (0, 1, 2)]


def test_what_a_server_holds_for_a_dead_engine_is_wrong():
    row = torture._deaths("an engine killed", deaths.Ends([0.1], num_held=2, num_failures=1), 2.0)
    assert (row.lost, row.wrong) == (1, 2)


def test_a_deaths_run_reads_the_servers_last_words(monkeypatch: pytest.MonkeyPatch):
    def end(server: int, _: object) -> None:
        os.kill(server, signal.SIGKILL)

    def watch(_: deaths.Ends, url: str, model: str, kill: object) -> None:
        del url, model
        assert callable(kill)
        kill()

    async def rest(_: int) -> None:
        pass

    monkeypatch.setattr(deaths, "_SIGNALS", (signal.SIGKILL,))
    monkeypatch.setattr(deaths, "_end", end)
    monkeypatch.setattr(deaths, "_watch", watch)
    monkeypatch.setattr(deaths, "rest", rest)
    assert deaths.engine_deaths(1).num_held == 1


async def test_a_fault_of_the_first_turn_of_readers_counts(monkeypatch: pytest.MonkeyPatch):
    class Turn:
        def __init__(self, port: int, server: int, found: readers.Readers, is_slow: bool) -> None:
            del port, server, is_slow
            self._found = found

        async def run(self, _: float) -> None:
            self._found.counts["wrong"] += 1
            self._found.gaps[False].append(0.1)

    monkeypatch.setattr(readers, "_Turn", Turn)
    found = await readers._drive(0, 0, 1.0, 1)
    assert found.wrong == 3
    assert len(found.gaps[False]) == 2
