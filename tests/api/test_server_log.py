"""The server's log on disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omlx.server.errors import EngineFailure, InvalidRequest
from omlx.server.log_format import traceback_of
from omlx.server.server_log import start_logging


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before = root.handlers[:]
    yield tmp_path / "server.log"
    for handler in [each for each in root.handlers if each not in before]:
        root.removeHandler(handler)
        handler.close()


def test_what_an_exception_says_begins_no_line_and_has_no_control_characters(log: Path) -> None:
    start_logging(log.parent, quiet=False)
    try:
        raise EngineFailure("\x1b[31mred\r\nINFO omlx: all is well")
    except EngineFailure:
        logging.getLogger("test").exception("it failed")
    text = log.read_text()
    assert "EngineFailure:  [31mred" in text
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if line.startswith(("INFO", "omlx"))] == []


@pytest.mark.parametrize("stands", [False, True])
def test_the_file_is_its_owners_alone_from_its_first_moment(
    log: Path, stands: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stands:
        log.touch(0o644)
    else:
        monkeypatch.setattr(os, "fchmod", lambda *_: None)
    start_logging(log.parent, quiet=False)
    assert log.stat().st_mode & 0o777 == 0o600


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_a_traceback_has_the_kinds_and_places_of_all_exceptions_and_the_words_of_those_that_quote_no_request() -> None:
    library = raised(ValueError("what was asked"))
    ours = raised(InvalidRequest("of what was asked"), library)
    group = raised(ExceptionGroup("asked", [raised(OSError(28, "No space left on device", "/asked"))]), ours)
    group.add_note("what was asked")
    told = traceback_of(raised(EngineFailure("the engine ended"), group))
    lines = [line for line in told.splitlines() if not line.startswith(" ")]
    assert [line for line in lines if not line.startswith("Traceback")] == [
        "ValueError",
        "omlx.server.errors.InvalidRequest",
        "ExceptionGroup",
        "OSError: No space left on device",
        "omlx.server.errors.EngineFailure: the engine ended",
    ]
    assert told.count("in raised") == 5
    assert "asked" not in told


def test_exceptions_that_led_to_one_another_are_told_once() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert [line for line in traceback_of(one).splitlines() if "Error" in line] == ["KeyError", "ValueError"]
