"""`omlx logs`: the last lines, by level, and new ones across a rotation."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from omlx.launcher.errors import LauncherError
from omlx.launcher.logs import LogLine, read_log

LINES = [
    "2026-01-01 10:00:00,000 INFO omlx.server: one",
    "2026-01-01 10:00:01,000 ERROR omlx.server: two",
    "Traceback of two",
    "2026-01-01 10:00:02,000 INFO omlx.server: three",
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.write_text("".join(f"{line}\n" for line in LINES))
    return path


def texts(path: Path, count: int = 10, level: str = "INFO") -> list[str]:
    return [line.text for line in read_log(path, count, level, follow=False)]


def test_the_last_lines_are_shown(log: Path):
    assert texts(log) == LINES
    assert texts(log, 2) == LINES[-2:]


def test_lines_that_go_on_have_the_level_of_the_one_before(log: Path):
    assert texts(log, level="ERROR") == LINES[1:3]


def test_a_line_is_taken_apart(log: Path):
    first = next(read_log(log, 10, "INFO", follow=False))
    assert first == LogLine(LINES[0], "INFO", "2026-01-01 10:00:00,000", "omlx.server", "one")


def test_new_lines_are_followed_across_a_rotation(log: Path):
    lines = read_log(log, 1, "INFO", follow=True)
    assert isinstance(lines, Generator)
    assert next(lines).text == LINES[-1]
    with log.open("a") as file:
        file.write("2026-01-01 10:00:03,000 INFO a: four\nhalf")
        file.flush()
        assert next(lines).message == "four"
        file.write(" a line\n")
    log.rename(log.with_suffix(".1"))
    log.write_text("2026-01-01 10:00:04,000 INFO a: five\n")
    assert next(lines).text == "half a line"
    assert next(lines).message == "five"
    lines.close()


def test_a_log_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(LauncherError, match="has a server run here yet"):
        list(read_log(tmp_path / "none", 1, "INFO", follow=False))
