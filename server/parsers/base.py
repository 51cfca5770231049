"""What every parser of answers is, and what the grammars of the formats share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from ..events import Delta
from ..requests import ToolDefinition
from .calls import CallWriter
from .prose import Prose
from .source import Reading, Source

_NAME = re.compile(r"[\w.:/@-]{1,128}")


class OutputParser(Protocol):
    """Turns the text of one answer into deltas, as it comes.

    However the text is cut, the deltas merged are the same. Neither function raises. `stop_sequence` is the
    stop string that ended the text, "" while none has. `is_over`: whatever the model goes on with, it is not told.
    """

    @property
    def stop_sequence(self) -> str: ...

    @property
    def is_over(self) -> bool: ...

    def feed(self, text: str) -> list[Delta]: ...

    def finish(self) -> list[Delta]:
        """What was held back; the text has ended."""
        ...


@dataclass(slots=True)
class Reader:
    """All that a grammar reads from and writes to."""

    source: Source
    prose: Prose
    calls: CallWriter
    tools: dict[str, ToolDefinition]
    report: Callable[[str], None]
    """Told what is wrong with output that does not parse: a few words, none of the output's own."""

    def is_name(self, name: str) -> bool:
        """Whether `name` may name a tool; a call whose name may not is none."""
        return name in self.tools or _NAME.fullmatch(name) is not None


Grammar: TypeAlias = Callable[[Reader], Reading[None]]
"""Reads an answer to its end. What it cannot read it writes as text, or as a call with the raw string."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family of models writes tool calls.

    `openers` begin a call and are written by this format only, or by formats that read each other's calls;
    `markers` are all the strings that must never reach a user. `is_written_by` tells from a chat template's
    text whether its model writes this format.
    """

    name: str
    grammar: Grammar
    is_written_by: Callable[[str], bool]
    openers: Sequence[str]
    markers: Sequence[str]
    needs_tools: bool = True
    """Whether an answer to a request without tools is plain text."""


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """What stands before and after a model's thinking. `is_written_by` as for tool formats."""

    name: str
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    is_written_by: Callable[[str], bool] = field(default=lambda _: False)


__all__ = ["Delta", "Grammar", "OutputParser", "Reader", "ReasoningFormat", "ToolFormat"]
