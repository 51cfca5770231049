"""Runs parsers over texts, cut in any way, and reads the transcripts."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from omlx.server.dialects.base import Answer, collect
from omlx.server.events import Finished, FinishReason, ReasoningDelta, TextDelta, Usage
from omlx.server.parsers.selection import Formats, make_parser
from omlx.server.requests import Json, ToolCall, ToolChoice, ToolDefinition

TRANSCRIPTS = Path(__file__).parent / "transcripts"

STRING: Json = {"type": "string"}
TOOLS = (
    ToolDefinition(
        "get_weather",
        "",
        {"properties": {"city": STRING, "unit": {"enum": ["celsius", "kelvin"]}, "days": {"type": "integer"}}},
    ),
    ToolDefinition("write", "", {"properties": {"path": STRING, "content": STRING}}),
    ToolDefinition(
        "search",
        "",
        {
            "properties": {
                "queries": {"type": "array", "items": STRING},
                "options": {"type": "object"},
                "exact": {"type": "boolean"},
                "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "word": STRING,
            }
        },
    ),
    ToolDefinition("ping", "", {}),
)

Segment = TextDelta | ReasoningDelta | ToolCall


@dataclass(frozen=True, slots=True)
class Run:
    answer: Answer
    reports: tuple[str, ...]
    stop_sequence: str


@dataclass(frozen=True, slots=True)
class Transcript:
    formats: Formats
    opens_reasoning: bool
    is_malformed: bool
    text: str
    expected: tuple[Segment, ...]


def parse(
    formats: Formats,
    pieces: Iterable[str],
    *,
    tools: Sequence[ToolDefinition] = TOOLS,
    opens_reasoning: bool = False,
    stop: Sequence[str] = (),
    tool_choice: ToolChoice = ToolChoice(),  # noqa: B008  (frozen)
) -> Run:
    numbers = count()
    reports: list[str] = []
    parser = make_parser(
        formats,
        tools,
        opens_reasoning,
        stop=stop,
        tool_choice=tool_choice,
        new_id=lambda: f"call_{next(numbers)}",
        report=reports.append,
    )
    deltas = [delta for piece in pieces for delta in parser.feed(piece)]
    deltas += parser.finish()
    answer = collect(deltas, Finished(FinishReason.STOP, Usage(0)))
    return Run(answer, tuple(reports), parser.stop_sequence)


def cut(text: str, size: int) -> list[str]:
    """`text` in pieces of `size` characters; whole for 0."""
    return [text[start : start + size] for start in range(0, len(text), size)] if size else [text]


def transcript_paths() -> list[Path]:
    return sorted(TRANSCRIPTS.glob("*/*.toml"))


def read_transcript(path: Path) -> Transcript:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    formats = Formats(path.parent.name, data.get("reasoning_format", "none"))
    numbers = count()
    expected = tuple(_segment(entry, numbers) for entry in data.get("expect", ()))
    is_malformed = data.get("malformed", False)
    return Transcript(formats, data.get("opens_reasoning", False), is_malformed, data["text"], expected)


def _segment(entry: dict[str, str], numbers: count[int]) -> Segment:
    if "call" in entry:
        return ToolCall(f"call_{next(numbers)}", entry["call"], entry["arguments"])
    return TextDelta(entry["text"]) if "text" in entry else ReasoningDelta(entry["reasoning"])
