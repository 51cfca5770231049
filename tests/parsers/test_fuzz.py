"""Damaged answers: no parser raises, depends on how the text is cut, or shows a mark to the user."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from omlx.server.events import TextDelta
from omlx.server.parsers import reasoning
from omlx.server.parsers.base import ReasoningFormat, ToolFormat
from omlx.server.parsers.selection import TOOL_FORMATS, Formats
from omlx.server.requests import ToolCall, ToolDefinition

from .running import TOOLS, Run, Segment, cut, parse, read_transcript, transcript_paths

ROUNDS = 15
FORMATS = [pytest.param(each, id=each.name) for each in TOOL_FORMATS]
PATHS = [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in transcript_paths()]
WORDS = [
    "word",
    " ",
    "\n",
    '"',
    "'",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    "=",
    "\\",
    "<",
    ">",
    "é😀",
    "ping",
    "name",
    "7",
]


def random_cuts(text: str, rng: random.Random) -> list[str]:
    places = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(8)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def damaged(text: str, markers: list[str], rng: random.Random) -> str:
    for _ in range(rng.randrange(1, 4)):
        place, length = rng.randrange(len(text) + 1), rng.randrange(12)
        inserted = rng.choice(["", rng.choice(markers), rng.choice(WORDS)])
        text = text[:place] + inserted + text[place + rng.choice([0, length]) :]
    return text[: rng.randrange(len(text) + 1)] if rng.random() < 0.3 else text


def shown(segments: tuple[Segment, ...]) -> Iterator[str]:
    """What a user sees as prose; arguments may hold marks, a file about them for instance."""
    for segment in segments:
        yield segment.name if isinstance(segment, ToolCall) else segment.text


def check(formats: Formats, text: str, rng: random.Random, opens: bool = False) -> Run:
    """Of a request with tools, and of one without."""
    check_one(formats, text, rng, opens, ())
    return check_one(formats, text, rng, opens, TOOLS)


def check_one(formats: Formats, text: str, rng: random.Random, opens: bool, tools: Sequence[ToolDefinition]) -> Run:
    whole = parse(formats, [text], opens_reasoning=opens, tools=tools)
    for pieces in (cut(text, 1), random_cuts(text, rng)):
        assert parse(formats, pieces, opens_reasoning=opens, tools=tools).answer == whole.answer, text
    for prose in shown(whole.answer.segments):
        for marker in formats.visible_markers:
            assert marker not in prose, (text, prose)
    return whole


@pytest.mark.parametrize("path", PATHS)
def test_a_damaged_transcript_neither_raises_nor_shows_marks(path: Path) -> None:
    transcript = read_transcript(path)
    rng = random.Random(path.stem)
    markers = sorted(transcript.formats.visible_markers)
    for _ in range(ROUNDS):
        text = damaged(transcript.text, markers, rng)
        check(transcript.formats, text, rng, rng.random() < 0.5)


@pytest.mark.parametrize("tool_format", FORMATS)
@pytest.mark.parametrize("think", [pytest.param(each, id=each.name) for each in reasoning.FORMATS])
def test_marks_and_words_in_any_order_neither_raise_nor_show(tool_format: ToolFormat, think: ReasoningFormat) -> None:
    formats = Formats(tool_format.name, think.name)
    rng = random.Random(tool_format.name + think.name)
    pieces = [*formats.visible_markers, *formats.visible_markers, *WORDS]
    for _ in range(ROUNDS):
        check(formats, "".join(rng.choice(pieces) for _ in range(rng.randrange(20))), rng)


@pytest.mark.parametrize("tool_format", FORMATS)
def test_an_answer_that_repeats_itself_endlessly_is_an_answer(tool_format: ToolFormat) -> None:
    formats = Formats(tool_format.name, "think")
    repeated = [*formats.visible_markers, "[", "{", '{"function":', "(", '<|"|>{a:', "[ping(a=["]
    for opener in ["", *tool_format.openers]:
        for piece in repeated:
            parse(formats, [opener + piece * 1500])


@pytest.mark.parametrize("path", PATHS)
def test_every_beginning_of_a_transcript_is_an_answer(path: Path) -> None:
    transcript = read_transcript(path)
    rng = random.Random(path.stem)
    for end in range(0, len(transcript.text), 5):
        check(transcript.formats, transcript.text[:end], rng, transcript.opens_reasoning)


@pytest.mark.parametrize("tool_format", FORMATS)
def test_text_without_marks_comes_back_as_it_is(tool_format: ToolFormat) -> None:
    formats = Formats(tool_format.name, "none")
    rng = random.Random(tool_format.name)
    for _ in range(ROUNDS):
        text = "Say " + "".join(rng.choice(WORDS) for _ in range(rng.randrange(30))) + "."
        assert parse(formats, random_cuts(text, rng)).answer.segments == (TextDelta(text),)
