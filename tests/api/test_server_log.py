"""The server's log on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

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
        raise ValueError("\x1b[31mred\r\nINFO omlx: all is well")
    except ValueError:
        logging.getLogger("test").exception("it failed")
    text = log.read_text()
    assert "ValueError:  [31mred" in text
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if line.startswith(("INFO", "ValueError"))] == []
