"""What a line of the log has of an exception."""

from __future__ import annotations

import logging

import pytest

from omlx.server.errors import CorruptModel, EngineFailure, InvalidRequest, RequestFailed
from omlx.server.log_format import LogFormatter, described


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("what was asked"), "ValueError"),
        (RuntimeError("what was asked"), "RuntimeError"),
        (InvalidRequest("of what was asked"), "omlx.server.errors.InvalidRequest"),
        (RequestFailed("at what was asked"), "omlx.server.errors.RequestFailed"),
        (EngineFailure("it ended"), "omlx.server.errors.EngineFailure: it ended"),
        (CorruptModel("a: b\n\x1b[2J"), "omlx.server.errors.CorruptModel: a: b  [2J"),
        (OSError(28, "No space left on device", "/asked"), "OSError: No space left on device"),
        (RuntimeError("[malloc] Unable to allocate 8 bytes."), "RuntimeError: [malloc] Unable to allocate 8 bytes."),
        (RuntimeError("[METAL] Insufficient Memory"), "RuntimeError: [METAL] Insufficient Memory"),
        (RuntimeError("cudaMalloc(&a, b) failed: no memory"), "RuntimeError: cudaMalloc(&a, b) failed: no memory"),
    ],
)
def test_an_exception_is_told_by_its_kind_and_by_words_that_quote_no_request(error: Exception, told: str) -> None:
    assert described(error) == told


def test_a_message_is_one_line_that_steers_no_terminal() -> None:
    record = logging.LogRecord(
        "omlx.a", logging.INFO, "", 0, "loads %s", ("x\nERROR omlx: forged \x1b[2J\u202e",), None
    )
    assert LogFormatter("%(levelname)s %(message)s").format(record) == "INFO loads x ERROR omlx: forged  [2J "
