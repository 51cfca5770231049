"""Requests as agents send them, shortened, and the script of one answer that has everything in it."""

from __future__ import annotations

import json
from typing import Any

from omlx.server.dialects.base import Encoder
from omlx.server.events import (
    Delta,
    Finished,
    FinishReason,
    PrefillProgress,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)

Json = dict[str, Any]

ADMITTED = Usage(num_prompt_tokens=100, num_cached_tokens=40)
FINISHED = Finished(FinishReason.TOOL_CALLS, Usage(100, 9, 40, 3))
DELTAS: list[Delta] = [
    ReasoningDelta("Let me "),
    ReasoningDelta("think."),
    TextDelta("I will "),
    TextDelta("do it."),
    ToolCallDelta(0, "call_1", "Bash"),
    ToolCallDelta(0, arguments='{"command":'),
    ToolCallDelta(0, arguments='"ls"}'),
    ToolCallDelta(1, "call_2", "Now"),
]


def body(fields: Json) -> bytes:
    return json.dumps(fields).encode()


def play(encoder: Encoder, deltas: list[Delta] = DELTAS, finished: Finished = FINISHED) -> bytes:
    """A whole stream, with a slow prefill in front."""
    records = [
        encoder.start(ADMITTED),
        encoder.heartbeat(),
        encoder.feed(PrefillProgress(50, 100)),
        encoder.heartbeat(),
    ]
    return b"".join([*records, *map(encoder.feed, deltas), encoder.finish(finished)])


def records(stream: bytes) -> list[tuple[str, Any]]:
    """The names and values of an event stream's records; the name is empty where there is none."""
    found: list[tuple[str, Any]] = []
    assert stream.endswith(b"\n\n")
    for record in stream.decode().removesuffix("\n\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in record.splitlines())
        data = lines["data"]
        found.append((lines.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


def claude_code() -> Json:
    mark = {"cache_control": {"type": "ephemeral"}}
    return {
        "model": "local",
        "max_tokens": 32000,
        "stream": True,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "safeguards": [{"type": "dangerous_tool_use", "classifier_context": {}}],
        "metadata": {"user_id": json.dumps({"device_id": "d", "account_uuid": "", "session_id": "s-1"})},
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.120; cc_entrypoint=sdk-cli;"},
            {"type": "text", "text": "You are a Claude agent.", **mark},
            {"type": "text", "text": "Be brief.", **mark},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>git</system-reminder>"},
                    {"type": "text", "text": "Go."},
                ],
            },
            {"role": "system", "content": "# Environment"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "\nHm.\n", "signature": "c2ln"},
                    {"type": "text", "text": "\n\nI look for a tool."},
                    {"type": "tool_use", "id": "toolu_1", "name": "ToolSearch", "input": {"query": "select:Cron"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "tool_reference", "tool_name": "Cron"}],
                    },
                    {"type": "text", "text": "<system-reminder>still there</system-reminder>", **mark},
                ],
            },
            {"role": "system", "content": "<total_tokens>14999436 tokens left</total_tokens>"},
        ],
        "tools": [
            {"name": "Bash", "description": "Run.", "input_schema": {"type": "object", "properties": {}}},
            {"name": "Cron", "description": "Plan.", "input_schema": {"type": "object"}, "defer_loading": True},
            {"name": "Now", "input_schema": {"type": "object"}, "eager_input_streaming": True},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
    }


def chat_tool(name: str) -> Json:
    return {"type": "function", "function": {"name": name, "description": name, "parameters": {"type": "object"}}}


def pi() -> Json:
    return {
        "model": "local",
        "stream": True,
        "stream_options": {"include_usage": True},
        "store": False,
        "max_completion_tokens": 16384,
        "reasoning_effort": "medium",
        "tools": [chat_tool("Bash"), chat_tool("Now")],
        "messages": [
            {"role": "developer", "content": "You are Pi."},
            {"role": "user", "content": [{"type": "text", "text": "Go."}]},
            {
                "role": "assistant",
                "content": "I will do it.",
                "reasoning_content": "\nHm.\n",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "Bash", "arguments": '{"command":"ls"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "README.md"},
        ],
    }


def codex() -> Json:
    """A second turn of Codex, with every kind of tool it sends."""
    function = {"type": "function", "name": "exec_command", "strict": False, "parameters": {"type": "object"}}
    return {
        "model": "local",
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "parallel_tool_calls": True,
        "prompt_cache_key": "thread-1",
        "client_metadata": {"x": "y"},
        "reasoning": {"summary": "auto", "effort": "high"},
        "text": {"verbosity": "low"},
        "tool_choice": "auto",
        "tools": [
            function,
            {
                "type": "custom",
                "name": "apply_patch",
                "description": "Edit files.",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin"},
            },
            {
                "type": "namespace",
                "name": "multi_agent_v1",
                "description": "Agents.",
                "tools": [{"type": "function", "name": "spawn", "parameters": {"type": "object"}}],
            },
            {"type": "web_search", "external_web_access": False},
        ],
        "input": [
            {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "exec"}]},
            {"type": "message", "role": "developer", "id": "msg_a", "content": [{"type": "input_text", "text": "Be."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go."}]},
            {
                "type": "reasoning",
                "id": "rs_a",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "content": [{"type": "reasoning_text", "text": "Hm, hm."}],
                "encrypted_content": None,
            },
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "spawn",
                "namespace": "multi_agent_v1",
                "arguments": "{}",
            },
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin"},
            {"type": "function_call_output", "call_id": "c1", "output": "ok"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "done"}]},
            {"type": "web_search_call", "id": "ws_a", "status": "completed"},
        ],
    }
