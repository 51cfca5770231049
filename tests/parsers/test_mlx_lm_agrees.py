"""Where mlx-lm parses a format too, both read the same calls out of the same text."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from omlx.server.requests import ToolCall

from .running import TOOLS, read_transcript, transcript_paths

THEIRS = {
    "hermes": "json_tools",
    "qwen3_coder": "qwen3_coder",
    "glm": "glm47",
    "longcat": "longcat",
    "minimax_m2": "minimax_m2",
    "kimi_k2": "kimi_k2",
    "minicpm5": "minicpm5",
    "muse_spark": "muse_spark",
    "mistral": "mistral",
    "pythonic": "pythonic",
    "gemma4": "gemma4",
    "function_gemma": "function_gemma",
}

DIFFERENT = {
    "hermes-extra_brace": "they refuse it",
    "hermes-openai_shape": "they give the object as it is",
    "hermes-arguments_as_string": "they leave the string",
    "hermes-markers_in_strings": "cut at a mark inside a string",
    "hermes-no_arguments": "they give no arguments",
    "qwen3_coder-file_content": "cut at a mark inside a value",
    "qwen3_coder-no_envelope": "they need the envelope",
    "qwen3_coder-seed": "another envelope",
    "glm-string_as_written": "they strip strings, which spoils files",
    "minimax_m2-file_content": "cut at a mark inside a value",
    "minicpm5-cdata": "cut at a mark inside a value",
    "kimi_k2-bare_name": "they need the section",
    "kimi_k2-marks_in_strings": "cut at a mark inside a string",
    "mistral-with_ids": "they do not know the mark for ids",
    "mistral-marks_in_strings": "cut at a mark inside a string",
    "pythonic-bare": "they need the marks",
    "pythonic-values": "their false is the text, and Python has no JSON escapes",
    "pythonic-marks_in_strings": "cut at a mark inside a string",
    "gemma4-marks_in_strings": "cut at a mark inside a string",
}


def cases() -> list[Any]:
    found: list[Any] = []
    for path in transcript_paths():
        transcript, name = read_transcript(path), f"{path.parent.name}-{path.stem}"
        has_calls = any(isinstance(segment, ToolCall) for segment in transcript.expected)
        if path.parent.name in THEIRS and has_calls and not transcript.is_malformed and name not in DIFFERENT:
            found.append(pytest.param(path, id=name))
    return found


@pytest.mark.parametrize("path", cases())
def test_both_read_the_same_calls(path: Path) -> None:
    transcript = read_transcript(path)
    theirs = importlib.import_module(f"mlx_lm.tool_parsers.{THEIRS[path.parent.name]}")
    schemas = [{"type": "function", "function": {"name": t.name, "parameters": t.parameters}} for t in TOOLS]
    calls: list[dict[str, Any]] = []
    for envelope in transcript.text.split(theirs.tool_call_start)[1:]:
        body = envelope.split(theirs.tool_call_end)[0] if theirs.tool_call_end else envelope
        parsed = theirs.parse_tool_call(body, schemas)
        calls += parsed if isinstance(parsed, list) else [parsed]
    ours = [(s.name, json.loads(s.arguments)) for s in transcript.expected if isinstance(s, ToolCall)]
    assert ours == [(call["name"], call["arguments"]) for call in calls]


def test_the_list_of_differences_names_transcripts() -> None:
    assert set(DIFFERENT) <= {f"{path.parent.name}-{path.stem}" for path in transcript_paths()}
