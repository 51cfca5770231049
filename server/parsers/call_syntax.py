"""How models write what a grammar holds them to: forced calls with a JSON body, and the thinking before.

The texts are what the models' own templates write, so that forcing them costs the model least.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import deepseek_v3, harmony, hermes, kimi_k2, llama_json, mistral, reasoning
from .selection import TOOL_FORMATS, Formats


def _plain(name: str) -> str:
    return name


def _in_json(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """`opening`, one call or more with `separator` between, `closing`. A call is `before_name`, its name,
    `before_arguments`, a JSON object, `after_arguments`. `marks` are tokens a model must have to write it.
    """

    before_name: str
    before_arguments: str
    after_arguments: str = ""
    opening: str = ""
    separator: str = ""
    closing: str = ""
    spell: Callable[[str], str] = _plain
    marks: Sequence[str] = ()
    only_one: bool = False


_SYNTAXES: dict[str, Sequence[CallSyntax]] = {
    hermes.FORMAT.name: [
        CallSyntax(
            before_name=hermes.OPEN + '\n{"name": "',
            before_arguments='", "arguments": ',
            after_arguments="}\n" + hermes.CLOSE,
            separator="\n",
            spell=_in_json,
        )
    ],
    kimi_k2.FORMAT.name: [
        CallSyntax(
            opening=kimi_k2.SECTION,
            before_name=kimi_k2.CALL + "functions.",
            before_arguments=":0" + kimi_k2.ARGUMENTS,
            after_arguments=kimi_k2.CALL_END,
            closing=kimi_k2.SECTION_END,
        )
    ],
    deepseek_v3.FORMAT.name: [
        CallSyntax(
            opening=deepseek_v3.SECTION,
            before_name=deepseek_v3.CALL,
            before_arguments=deepseek_v3.SEPARATOR,
            after_arguments=deepseek_v3.CALL_END,
            closing=deepseek_v3.SECTION_END,
        )
    ],
    mistral.FORMAT.name: [
        CallSyntax(before_name=mistral.OPEN, before_arguments=mistral.ARGUMENTS, marks=[mistral.ARGUMENTS]),
        CallSyntax(
            opening=mistral.OPEN + "[",
            before_name='{"name": "',
            before_arguments='", "arguments": ',
            after_arguments="}",
            separator=", ",
            closing="]",
            spell=_in_json,
        ),
    ],
    llama_json.FORMAT.name: [
        CallSyntax(
            before_name='{"name": "',
            before_arguments='", "parameters": ',
            after_arguments="}",
            separator="; ",
            spell=_in_json,
        )
    ],
    harmony.FORMAT.name: [
        CallSyntax(
            before_name=harmony.CHANNEL + "commentary to=functions.",
            before_arguments=f" {harmony.CONSTRAIN}json{harmony.MESSAGE}",
            only_one=True,
        )
    ],
}


@dataclass(frozen=True, slots=True)
class ThinkingSyntax:
    """`start`, thoughts, `end`, any number of times; then `before_text`, which a call does without."""

    start: str
    end: str
    before_text: str = ""


_CHANNELS = ThinkingSyntax(
    start=harmony.CHANNEL + "analysis" + harmony.MESSAGE,
    end=harmony.ENDS[0] + harmony.START + "assistant",
    before_text=harmony.CHANNEL + "final" + harmony.MESSAGE,
)
_THINKING: dict[str, ThinkingSyntax] = {
    **{each.name: ThinkingSyntax(each.starts[0], each.ends[0]) for each in reasoning.ANNOUNCED},
    harmony.FORMAT.name: _CHANNELS,
}


def thinking_syntax(formats: Formats) -> ThinkingSyntax | None:
    """What may stand before an answer; None for a model that does not think."""
    return _THINKING.get(formats.tools) or _THINKING.get(formats.reasoning)


def call_opener(formats: Formats) -> str:
    """The mark a call begins with."""
    return next(each.openers[0] for each in TOOL_FORMATS if each.name == formats.tools)


def call_syntax(format_name: str, has_token: Callable[[str], bool]) -> CallSyntax | None:
    """The form of a format's calls for a model whose tokens `has_token` knows; None without a JSON body."""
    syntaxes = _SYNTAXES.get(format_name, ())
    return next((syntax for syntax in syntaxes if all(map(has_token, syntax.marks))), None)
