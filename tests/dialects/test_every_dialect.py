"""What holds for every dialect, whatever it speaks."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.server.dialects import anthropic_messages, openai_chat, openai_completions
from omlx.server.dialects.base import Dialect, collect
from omlx.server.dialects.openai_response_store import ResponseStore
from omlx.server.dialects.openai_responses import ResponsesDialect
from omlx.server.errors import InvalidRequest, ModelNotFound
from omlx.server.events import Delta, Finished, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta

from .samples import ADMITTED, FINISHED, Json, body, claude_code, codex, pi, play, records

COMPLETION: Json = {"model": "local", "prompt": ["Once"], "stop": ["."], "stream": True}
DIALECTS: list[tuple[Dialect, Json]] = [
    (anthropic_messages, claude_code()),
    (openai_chat, pi()),
    (openai_completions, COMPLETION),
    (ResponsesDialect(ResponseStore()), codex()),
]
NAMES = ["messages", "chat", "completions", "responses"]
every_dialect = pytest.mark.parametrize(("dialect", "sample"), DIALECTS, ids=NAMES)
every_dialect_with_tools = pytest.mark.parametrize(
    ("dialect", "sample"), [pair for pair in DIALECTS if "tools" in pair[1]], ids=["messages", "chat", "responses"]
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


PIECES = st.lists(st.text(max_size=4), max_size=3)
ARGUMENTS = st.lists(st.text('{"input":\\}ud83', max_size=6), max_size=3)
SEGMENTS = st.lists(
    st.tuples(st.sampled_from(["text", "reasoning"]), PIECES)
    | st.tuples(st.sampled_from(["Bash", "apply_patch"]), ARGUMENTS),
    max_size=5,
)


def deltas_of(segments: list[tuple[str, list[str]]]) -> list[Delta]:
    found: list[Delta] = []
    for index, (kind, pieces) in enumerate(segments):
        if kind in ("text", "reasoning"):
            found += map(TextDelta if kind == "text" else ReasoningDelta, pieces)
        else:
            found.append(ToolCallDelta(index, f"call_{index}", kind))
            found += (ToolCallDelta(index, arguments=piece) for piece in pieces)
    return found


def decode_or_refuse(dialect: Dialect, raw: bytes) -> None:
    """Anything but a call or an `InvalidRequest` fails the test."""
    with contextlib.suppress(InvalidRequest):
        dialect.decode(raw, "req_1")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, item in items:
        found += places(item, (*path, key))
    return found


def planted(sample: Json, path: tuple[Any, ...], value: Any) -> Json:
    changed = copy.deepcopy(sample)
    target: Any = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return changed


@every_dialect
@settings(max_examples=100, deadline=None, database=None)
@given(data=st.data())
def test_a_request_with_anything_anywhere_is_decoded_or_refused(
    dialect: Dialect, sample: Json, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(places(sample)))
    decode_or_refuse(dialect, body(planted(sample, path, data.draw(JSON))))


@every_dialect
@settings(max_examples=60, deadline=None, database=None)
@given(raw=st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_decoded_or_refused(dialect: Dialect, sample: Json, raw: bytes) -> None:
    del sample
    decode_or_refuse(dialect, raw)


@every_dialect
@settings(max_examples=40, deadline=None, database=None)
@given(data=st.data())
def test_a_cut_body_is_refused(dialect: Dialect, sample: Json, data: st.DataObject) -> None:
    raw = body(sample)
    with pytest.raises(InvalidRequest):
        dialect.decode(raw[: data.draw(st.integers(0, len(raw) - 1))], "req_1")


@every_dialect
@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" + b"0" * 400])
def test_a_number_out_of_range_is_refused(dialect: Dialect, sample: Json, number: bytes) -> None:
    raw = body(sample | {"temperature": "HERE"}).replace(b'"HERE"', number)
    with pytest.raises(InvalidRequest):
        dialect.decode(raw, "req_1")


@every_dialect_with_tools
@pytest.mark.parametrize("depth", [200, 100_000])
def test_deep_nesting_is_refused(dialect: Dialect, sample: Json, depth: int) -> None:
    schema = next(path for path in places(sample) if path[0] == "tools" and path[-1] in ("parameters", "input_schema"))
    raw = body(planted(sample, schema, {"a": "HERE"})).replace(b'"HERE"', b"[" * depth + b"]" * depth)
    with pytest.raises(InvalidRequest, match="nested"):
        dialect.decode(raw, "req_1")


@every_dialect
def test_half_a_character_does_not_end_a_session(dialect: Dialect, sample: Json) -> None:
    raw = body(sample | {"model": "HERE"})
    cut = dialect.decode(raw.replace(b"HERE", rb"a\ud83d \\ud83d \ud83d\ude00"), "req_1")
    assert cut.request.model == "a\N{REPLACEMENT CHARACTER} \\ud83d \N{GRINNING FACE}"


@every_dialect
def test_unknown_fields_are_ignored_with_one_line(
    dialect: Dialect, sample: Json, caplog: pytest.LogCaptureFixture
) -> None:
    known = dialect.decode(body(sample), "req_1").request
    caplog.set_level(logging.DEBUG)
    assert dialect.decode(body(sample | {"hologram": {"a": [1]}}), "req_1").request == known
    (line,) = caplog.messages
    assert line.startswith("req_1: ignored ")
    assert "hologram" in line


@every_dialect
def test_a_stream_is_whole_records_whatever_the_text(dialect: Dialect, sample: Json) -> None:
    encoder = dialect.decode(body(sample), "req_1").encoder()
    text = 'a\n\nb\r\n"data: x"\u2028\u2029\x85\x00'
    stream = play(encoder, [ReasoningDelta(text), TextDelta(text)])
    found = json.dumps([value for _, value in records(stream)], ensure_ascii=False)
    assert json.dumps(text, ensure_ascii=False) in found


@every_dialect
@settings(max_examples=60, deadline=None, database=None)
@given(segments=SEGMENTS, reason=st.sampled_from(FinishReason))
def test_any_answer_is_a_stream_and_a_body(
    dialect: Dialect, sample: Json, segments: list[tuple[str, list[str]]], reason: FinishReason
) -> None:
    call = dialect.decode(body(sample), "req_1")
    deltas, finished = deltas_of(segments), Finished(reason, ADMITTED, "END")
    found = [value for _, value in records(play(call.encoder(), deltas, finished))]
    numbers = [value["sequence_number"] for value in found if "sequence_number" in value]
    assert numbers == list(range(len(numbers)))
    opened = [value["type"] for value in found if str(value).startswith("{'type': 'content_block_")]
    assert opened.count("content_block_start") == opened.count("content_block_stop")
    assert json.loads(call.encode_answer(collect(deltas, finished)))


@every_dialect
def test_an_answer_without_a_delta_is_a_stream(dialect: Dialect, sample: Json) -> None:
    encoder = dialect.decode(body(sample), "req_1").encoder()
    assert records(encoder.start(ADMITTED) + encoder.finish(FINISHED))


@every_dialect
def test_an_error_tells_its_message(dialect: Dialect, sample: Json) -> None:
    del sample
    encoded = json.loads(dialect.encode_error(ModelNotFound("x", ["local"]), "req_1"))
    assert "Available models: local" in encoded["error"]["message"]
