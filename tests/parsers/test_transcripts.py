"""Every transcript, whatever its format, cut in every way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omlx.server.parsers.selection import TOOL_FORMATS
from omlx.server.requests import ToolCall, ToolChoice

from .running import TRANSCRIPTS, cut, parse, read_transcript, transcript_paths

ALL = [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in transcript_paths()]


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
def test_a_transcript_gives_its_events_however_it_is_cut(path: Path, size: int) -> None:
    transcript = read_transcript(path)
    run = parse(transcript.formats, cut(transcript.text, size), opens_reasoning=transcript.opens_reasoning)
    assert run.answer.segments == transcript.expected
    assert bool(run.reports) == transcript.is_malformed, run.reports


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("size", [0, 3])
def test_an_answer_that_may_call_once_ends_before_the_second_call(path: Path, size: int) -> None:
    transcript = read_transcript(path)
    calls = [place for place, segment in enumerate(transcript.expected) if isinstance(segment, ToolCall)]
    told = transcript.expected[: calls[1]] if len(calls) > 1 else transcript.expected
    run = parse(
        transcript.formats,
        cut(transcript.text, size),
        opens_reasoning=transcript.opens_reasoning,
        tool_choice=ToolChoice(parallel=False),
    )
    assert run.answer.segments == told


@pytest.mark.parametrize("path", ALL)
def test_the_arguments_of_well_formed_calls_are_json_objects(path: Path) -> None:
    transcript = read_transcript(path)
    calls = [segment for segment in transcript.expected if isinstance(segment, ToolCall)]
    for call in calls if not transcript.is_malformed else ():
        assert isinstance(json.loads(call.arguments), dict)


def test_every_format_has_transcripts_and_every_folder_is_a_format() -> None:
    assert {path.name for path in TRANSCRIPTS.iterdir()} == {each.name for each in TOOL_FORMATS}
