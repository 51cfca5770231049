"""Arguments of calls that are no JSON: the SDK, which parses each piece as it comes, still gets a whole message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omlx.server.dialects import anthropic_messages
from omlx.server.dialects.base import collect
from omlx.server.dialects.json_object import ObjectText, object_text
from omlx.server.events import Delta, ToolCallDelta

from .samples import FINISHED, body, play
from .sdk import anthropic_client

ASKED: Any = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=3)
NEARLY_JSON = st.text('{}[]",:\\u dD83e01.-n\n', max_size=16) | st.lists(
    st.sampled_from(['{"a":', '"b"', "{", "}", "[", "]", ",", ":", '"', "true", "nul", "1e999", "-", " ", "\\ud83d"]),
    max_size=10,
).map("".join)


def streamed_and_whole(pieces: list[str]) -> tuple[Any, Any]:
    """What the SDK makes of a call whose arguments come in these pieces, and of the same call in one body."""
    deltas: list[Delta] = [ToolCallDelta(0, "call_1", "f"), *(ToolCallDelta(0, arguments=piece) for piece in pieces)]
    call = anthropic_messages.decode(body(ASKED), "req_1")
    client = anthropic_client(play(call.encoder(), deltas), is_stream=True)
    with client.messages.stream(**ASKED) as stream:
        streamed = stream.get_final_message()
    whole = anthropic_client(call.encode_answer(collect(deltas, FINISHED))).messages.create(**ASKED)
    return streamed.content[0].to_dict()["input"], whole.content[0].to_dict()["input"]


@pytest.mark.parametrize(
    ("written", "members"),
    [
        ("{bad}", {}),
        ('{"a":"x",}', {"a": "x"}),
        ('{"a":tru}', {}),
        ("{'a':1}", {}),
        ('{"a": "x", "b": {"c": "unterminated', {"a": "x", "b": False}),
        ('{"a": [1, {"b": 2', {"a": False}),
        ('{"a": "\\d"}', {"a": False}),
        ("[1,2]", {}),
        ("5", {}),
        ('{"a": 1} and more', {"a": 1}),
        ('{"a": 1]', {"a": 1}),
        ('{"a":' + "[" * 1200 + "]" * 1200 + "}", None),
    ],
)
def test_what_is_no_object_is_told_raw_in_one_whole_or_streamed(written: str, members: dict | None) -> None:
    streamed, whole = streamed_and_whole(list(written))
    assert streamed == whole
    assert streamed.pop("raw_arguments") == written
    assert members is None or streamed == members


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", {}),
        (" \n", {}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        ('{"a": "\\ud83d, \\ud83d\\ude00"}', {"a": "\N{REPLACEMENT CHARACTER}, \N{GRINNING FACE}"}),
    ],
)
def test_what_can_only_mean_one_object_is_that(written: str, meant: dict) -> None:
    assert streamed_and_whole(list(written)) == (meant, meant)


def test_a_text_is_told_while_it_comes() -> None:
    text = ObjectText()
    assert [text.feed(piece) for piece in ('{"comm', 'and": ', '"ls', ' -l"', "}")] == [
        "{",
        "",
        '"command":"ls',
        ' -l"',
        "",
    ]
    assert text.finish() == "}"


@settings(deadline=None, database=None, max_examples=150)
@given(value=OBJECTS, indent=st.sampled_from([None, 1]), is_ascii=st.booleans(), size=st.integers(1, 7))
def test_an_object_comes_out_as_it_is(value: dict, indent: int | None, is_ascii: bool, size: int) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    streamed, whole = streamed_and_whole([written[at : at + size] for at in range(0, len(written), size)])
    assert streamed == whole == value


@settings(deadline=None, database=None, max_examples=300)
@given(written=NEARLY_JSON, size=st.integers(1, 5))
@example('{"a":"\\ud83d', 1)
@example('{"a":1e999}', 3)
def test_anything_comes_out_as_an_object_however_it_is_cut(written: str, size: int) -> None:
    text = ObjectText()
    pieces = [text.feed(written[at : at + size]) for at in range(0, len(written), size)]
    joined = "".join(pieces) + text.finish()
    assert joined == object_text(written)
    assert isinstance(json.loads(joined), dict)
    streamed, whole = streamed_and_whole([written[at : at + size] for at in range(0, len(written), size)])
    assert streamed == whole
