"""What a person sees."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from omlx.integrations.spec import Model
from omlx.launcher.journal import Wired
from omlx.launcher.terminal import Progress, columns, pick_model
from omlx.launcher.wire import wired_rows


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_overwrites_its_line_and_leaves_none():
    terminal = Terminal()
    with Progress(terminal) as report:
        report("one")
        report("two")
    assert terminal.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


def test_progress_is_silent_in_a_pipe():
    pipe = io.StringIO()
    with Progress(pipe) as report:
        report("one")
    assert pipe.getvalue() == ""


def test_columns_are_aligned_and_the_last_one_is_free():
    assert columns([("A", "B"), ("long", "x y z")]) == "A     B\nlong  x y z"


def test_the_picker_returns_the_numbered_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "2")
    models = [Model("small", 8192, 1), Model("large", 131_072, 1, size_bytes=20_000_000_000, loaded=True)]
    assert pick_model(models) is models[1]
    assert capsys.readouterr().err.splitlines() == [
        "     MODEL  SIZE     WINDOW",
        "  1  small  -        8,192",
        "  2  large  20.0 GB  131,072  loaded",
    ]


def test_the_picker_says_which_model_does_not_fit_and_offers_one_that_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "")
    models = [Model("small", 8192, 1), Model("large", 131_072, 1)]
    assert pick_model(models, lambda model: "too small" if model is models[0] else "") is models[1]
    assert "1  small  -     8,192    too small" in capsys.readouterr().err


def test_the_picker_asks_again_in_words_after_what_is_no_number_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    typed = iter(["3", "small", "0", "1"])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: next(typed))
    models = [Model("small", 8192, 1), Model("large", 131_072, 1)]
    assert pick_model(models) is models[0]
    assert capsys.readouterr().err.count("Error: give a number from 1 to 2") == 3


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock nine hours ahead of UTC's, for the time of the test."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_since_when_an_agent_is_wired_is_told_by_the_clock_here():
    entry = Wired("pi", Path("/x"), datetime(2026, 11, 26, 20, 30, tzinfo=UTC), ())
    assert wired_rows([entry]) == [("pi", "/x", "2026-11-27 05:30", "the whole file")]
