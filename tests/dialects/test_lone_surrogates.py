"""Half a character, which JavaScript clients send where they cut a text, is decoded as U+FFFD."""

from __future__ import annotations

import json
import sys
from types import FrameType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omlx.server.dialects.wire import decode_body
from omlx.server.errors import InvalidRequest

_ESCAPES = ("\\\\", "\\n", '\\"', "u", "d83d", "\\ud83d", "\\uDBFF", "\\ude00", "\\uDC00", "\\u00e9", "a", "\u00e9")


@settings(max_examples=500, deadline=None, database=None)
@given(st.lists(st.sampled_from(_ESCAPES), max_size=9).map("".join))
@example("\\\\ud83d" + "\\\\\\ud83d" + "\\ud83d\\ude00")
@example("\\ud83d\\ud83d\\ude00\\ude00")
def test_pairs_are_kept_and_halves_replaced_whatever_stands_before_them(text: str) -> None:
    """Python's own reader keeps halves as they are."""
    whole = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in json.loads(f'"{text}"'))
    assert decode_body(f'"{text}"'.encode(), str) == whole


@pytest.mark.parametrize("body", [b'"\\ud83d', b'"\\ud83d\0"', b'"\\ud83d\0ud83d"', b'"\\\\ud83d', b'"\\ud83'])
def test_what_is_no_json_beside_them_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not JSON"):
        decode_body(body, str)


@pytest.mark.parametrize("escape", [b"\\n", b"\\\\", b"\\ud83d", b"\\ud83d\\ude00"])
def test_a_body_of_escapes_that_is_no_json_costs_no_call_for_each(escape: bytes) -> None:
    """The event loop waits for it, and with that every stream."""
    num_calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal num_calls
        num_calls += event == "call"

    sys.setprofile(count)
    try:
        with pytest.raises(InvalidRequest, match="not JSON"):
            decode_body(b'"' + escape * 10_000, str)
    finally:
        sys.setprofile(None)
    assert num_calls < 1000
