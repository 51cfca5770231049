"""How models mark their thinking."""

from __future__ import annotations

from .base import ReasoningFormat


def _format(name: str, start: str, end: str) -> ReasoningFormat:
    return ReasoningFormat(name, (start,), (end,), lambda template: start in template or end in template)


NONE = ReasoningFormat("none")

IMPLIED = ReasoningFormat("implied", ("<think>",), ("</think>",))
"""Where the template says nothing of thinking: an answer that begins with the mark all the same was meant so."""

ANNOUNCED = (
    _format("think", "<think>", "</think>"),
    _format("thinking", "<thinking>", "</thinking>"),
    _format("longcat", "<longcat_think>", "</longcat_think>"),
    _format("seed", "<seed:think>", "</seed:think>"),
    _format("magistral", "[THINK]", "[/THINK]"),
    _format("command", "<|START_THINKING|>", "<|END_THINKING|>"),
    _format("minicpm", "<|thought_begin|>", "<|thought_end|>"),
    _format("marked", "<|think:start|>", "<|think:end|>"),
    ReasoningFormat("channel", ("<|channel>thought",), ("<channel|>",), lambda template: "<|channel>" in template),
)
"""Formats that a template tells of."""

FORMATS = (*ANNOUNCED, IMPLIED, NONE)
