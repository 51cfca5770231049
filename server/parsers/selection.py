"""Which formats a model writes, and the parser for one answer of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import SettingsError
from ..events import Delta, TextDelta, ToolCallDelta
from ..requests import ToolChoice, ToolDefinition, ToolMode
from . import (
    deepseek_v3,
    dsml,
    gemma,
    glm,
    harmony,
    hermes,
    kimi_k2,
    llama_json,
    longcat,
    minicpm5,
    minimax_m2,
    mistral,
    muse_spark,
    pythonic,
    qwen3_coder,
    reasoning,
)
from .base import OutputParser, Reader, ReasoningFormat, ToolFormat
from .calls import CallWriter, new_call_id
from .foreign import ForeignMarkers
from .prose import Prose
from .scrubber import Scrubber
from .source import Reading, Source
from .stop_strings import StopStrings

logger = logging.getLogger(__name__)

Format = TypeVar("Format", ToolFormat, ReasoningFormat)

TOOL_FORMATS: tuple[ToolFormat, ...] = (
    harmony.FORMAT,
    minimax_m2.FORMAT,
    dsml.FORMAT,
    muse_spark.FORMAT,
    minicpm5.FORMAT,
    gemma.FORMAT,
    gemma.FUNCTION_GEMMA,
    longcat.FORMAT,
    glm.FORMAT,
    pythonic.FORMAT,
    qwen3_coder.FORMAT,
    kimi_k2.FORMAT,
    deepseek_v3.FORMAT,
    mistral.FORMAT,
    hermes.FORMAT,
    llama_json.FORMAT,
)
"""In the order they are asked whether a template is theirs: those that share a marker, the special one first."""


RAW = "raw"
"""Names the format of a bare continuation, in which nothing is looked for."""


@dataclass(frozen=True, slots=True)
class Formats:
    """The names of a model's formats."""

    tools: str
    reasoning: str

    @property
    def announced_reasoning(self) -> str:
        """As settings name it: `none` where the template tells of no thinking."""
        return reasoning.NONE.name if self.reasoning == reasoning.IMPLIED.name else self.reasoning

    @property
    def visible_markers(self) -> frozenset[str]:
        """What the detokenizer must leave in the text for the parser."""
        think = _by_name(self.reasoning, reasoning.FORMATS)
        return frozenset((*_tool_format(self.tools).markers, *think.starts, *think.ends))


def choose_formats(
    template_text: str, overrides: Mapping[str, str] | None = None, renders_tools: bool = True
) -> Formats:
    """Tell the formats from the chat template's text.

    `overrides` may name `tool_format` and `reasoning_format`. Raises `SettingsError` for a name that is none.
    Where the template names no format, or does not render tools (`renders_tools`), it is `hermes`: the prompt's
    own tools section asks for that one.
    """
    chosen = {"tool_format": "", "reasoning_format": "", **(overrides or {})}
    return Formats(
        _choose(
            chosen["tool_format"],
            TOOL_FORMATS,
            template_text if renders_tools else "",
            hermes.FORMAT.name,
            "tool_format",
        ),
        _choose(
            chosen["reasoning_format"], reasoning.FORMATS, template_text, reasoning.IMPLIED.name, "reasoning_format"
        ),
    )


def make_parser(
    formats: Formats,
    tools: Sequence[ToolDefinition] = (),
    opens_reasoning: bool = False,
    *,
    stop: Sequence[str] = (),
    tool_choice: ToolChoice = ToolChoice(),  # noqa: B008  (frozen)
    new_id: Callable[[], str] = new_call_id,
    report: Callable[[str], None] = logger.warning,
) -> OutputParser:
    """A parser for one answer. `report` gets a line for each kind of output that did not parse."""
    return AnswerParser(formats, tools, opens_reasoning, stop, tool_choice, new_id, report)


class AnswerParser:
    """One grammar over text, reasoning and calls, then stop strings over the text."""

    def __init__(
        self,
        formats: Formats,
        tools: Sequence[ToolDefinition],
        opens_reasoning: bool,
        stop: Sequence[str],
        tool_choice: ToolChoice,
        new_id: Callable[[], str],
        report: Callable[[str], None],
    ) -> None:
        tool_format = _tool_format(formats.tools)
        think = _by_name(formats.reasoning, reasoning.FORMATS)
        self._report = report
        self._format_name = tool_format.name
        self._reported: set[str] = set()
        self._deltas: list[Delta] = []
        self._source = Source()
        self._stops = StopStrings(stop)
        has_calls = bool(tools) or not tool_format.needs_tools
        self._scrubber = Scrubber((*tool_format.markers, *think.starts, *think.ends))
        foreign = ForeignMarkers(tool_format, TOOL_FORMATS, self._mismatch)
        self._has_ended = False
        emit = self._deltas.append if tool_choice.parallel else self._up_to_the_second_call
        prose = Prose(
            self._source,
            emit,
            think.starts,
            think.ends,
            opens_reasoning and bool(think.ends),
            watch=foreign.see if tools else None,
            only_at_the_beginning=think is reasoning.IMPLIED,
        )
        emit_call = self._discard if tool_choice.mode is ToolMode.NONE else emit
        calls = CallWriter(emit_call, new_id)
        reader = Reader(self._source, prose, calls, {tool.name: tool for tool in tools}, self._malformed)
        self._reading = (tool_format.grammar if has_calls else _no_calls)(reader)

    @property
    def stop_sequence(self) -> str:
        return self._stops.found

    @property
    def is_over(self) -> bool:
        return self._has_ended or bool(self._stops.found)

    def feed(self, text: str) -> list[Delta]:
        if self._stops.found:
            return []
        if self._source.push(text):
            next(self._reading, None)
        return self._up_to_stop(self._drain())

    def finish(self) -> list[Delta]:
        if self._stops.found:
            return []
        self._source.is_ended = True
        for _ in self._reading:
            raise AssertionError("a grammar waits for text after the end of the text")
        return self._up_to_stop(self._drain() + self._scrubber.finish()) + self._held_by_stops()

    def _drain(self) -> list[Delta]:
        deltas = self._scrubber.feed(self._deltas)
        self._deltas.clear()
        return deltas

    def _up_to_stop(self, deltas: list[Delta]) -> list[Delta]:
        """What comes before a stop string. It is looked for in text alone: cut thinking is no answer, a cut call no
        JSON."""
        if not self._stops:
            return deltas
        kept: list[Delta] = []
        for delta in deltas:
            if not isinstance(delta, TextDelta):
                kept += [*self._held_by_stops(), delta]
            elif text := self._stops.feed(delta.text):
                kept.append(TextDelta(text))
            if self._stops.found:
                break
        return kept

    def _held_by_stops(self) -> list[Delta]:
        held = self._stops.finish()
        return [TextDelta(held)] if held else []

    def _up_to_the_second_call(self, delta: Delta) -> None:
        if isinstance(delta, ToolCallDelta) and delta.index:
            self._has_ended = True
        if not self._has_ended:
            self._deltas.append(delta)

    def _discard(self, _: Delta) -> None:
        self._log("the model called a tool though tool_choice is none; the call is dropped")

    def _malformed(self, words: str) -> None:
        self._log(f"malformed {self._format_name} output: {words}")

    def _mismatch(self, other: str) -> None:
        self._log(f"model wrote format {other}, parser is {self._format_name}")

    def _log(self, line: str) -> None:
        if line not in self._reported:
            self._reported.add(line)
            self._report(line)


def _no_calls(reader: Reader) -> Reading[None]:
    yield from reader.prose.until([])


_RAW = ToolFormat(RAW, _no_calls, is_written_by=lambda _: False, openers=(), markers=())


def _tool_format(name: str) -> ToolFormat:
    return _by_name(name, (*TOOL_FORMATS, _RAW))


def _by_name(name: str, formats: Sequence[Format]) -> Format:
    return next(each for each in formats if each.name == name)


def _choose(
    override: str, formats: Sequence[ToolFormat] | Sequence[ReasoningFormat], template: str, default: str, setting: str
) -> str:
    names = [each.name for each in formats]
    if override:
        if override not in names:
            raise SettingsError(f"{setting} {override!r} is not known; choose one of {', '.join(sorted(names))}")
        return override
    return next((each.name for each in formats if each.is_written_by(template)), default)
