# ruff: noqa: RUF001  (full-width bars are what it is about)
"""The published rules of DeepSeek V4's encoding, written out step by step: what its prompts are compared with."""

from __future__ import annotations

import json
from typing import Any

from ..text_model import DEEPSEEK_V4_MARKS

BOS, EOS, USER, ASSISTANT = DEEPSEEK_V4_MARKS
_TOOLS = """

## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a \
"<｜DSML｜tool_calls>" block like the following:

<｜DSML｜tool_calls>
<｜DSML｜invoke name="$TOOL_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$TOOL_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, \
objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> \
BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

SCHEMAS

You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.
"""

_ABSOLUTE = """\
Reasoning Effort: Absolute maximum with no shortcuts permitted.
You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, \
rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.
Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, \
and rejected hypothesis to ensure absolutely no assumption is left unchecked.

"""
_BEYOND = """\
Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.
You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose the \
problem into its most fundamental components, trace every causal chain to its root, and resolve the underlying cause \
rather than any surface symptom.
Do not stop reasoning until you have independently verified the solution from multiple angles and are certain that no \
assumption remains unchecked and no error remains undiscovered.

"""
EFFORTS = {
    "original": {"low": "", "high": "", "max": _ABSOLUTE},
    "0731": {"low": "", "high": _ABSOLUTE, "max": _BEYOND},
}
"""What is said at the beginning to a model that thinks, by its release."""

Turn = dict[str, Any]


def by_the_rules(messages: list[Turn], tools: list[Turn], thinks: bool, drops: bool, effort: str = "") -> str:
    """`tools` are the request's: the first system message has them, an empty one where there is none. `effort` is what
    is said of it."""
    turns = _in_order_of_calls(_joined(_with_tools(messages, tools)))
    drops = drops and not any(turn.get("tools") for turn in turns)
    if thinks and drops:
        last = _last_asked(turns)
        turns = [turn for at, turn in enumerate(turns) if turn["role"] != "developer" or at >= last]
    last = _last_asked(turns)
    text = BOS + (effort if thinks else "")
    for at, turn in enumerate(turns):
        before = turns[at - 1] if at else {}
        if turn["role"] == "assistant":
            keeps = thinks and before.get("task") is None and (not drops or at > last)
            text += answer_text(turn, keeps)
        else:
            text += _said(turn)
        if at + 1 == len(turns) or turns[at + 1]["role"] in ("assistant", "latest_reminder"):
            text += _what_follows(turn, thinks, thinks and (not drops or at >= last))
    return text


def _with_tools(messages: list[Turn], tools: list[Turn]) -> list[Turn]:
    if not tools:
        return messages
    has_system = bool(messages) and messages[0]["role"] == "system"
    system, rest = (messages[0], messages[1:]) if has_system else ({"role": "system", "content": ""}, messages)
    return [{**system, "tools": tools}, *rest]


def _joined(messages: list[Turn]) -> list[Turn]:
    """What users and tools say in one go is one turn of `blocks`, each a text or a result with its call's id."""
    joined: list[Turn] = []
    for message in messages:
        last: Turn = joined[-1] if joined else {"role": ""}
        if message["role"] == "tool":
            block = {"result": message["content"], "id": message.get("tool_call_id", "")}
            if last["role"] == "user":
                last["blocks"].append(block)
            else:
                joined.append({"role": "user", "blocks": [block]})
        elif message["role"] == "user":
            if last["role"] == "user" and last.get("task") is None:
                last["blocks"].append({"text": message["content"]})
            else:
                joined.append({"role": "user", "blocks": [{"text": message["content"]}], "task": message.get("task")})
        else:
            joined.append(message)
    return joined


def _in_order_of_calls(turns: list[Turn]) -> list[Turn]:
    places: dict[str, int] = {}
    for turn in turns:
        if turn.get("tool_calls"):
            places = {call["id"]: place for place, call in enumerate(turn["tool_calls"]) if "id" in call}
        elif turn["role"] == "user":
            results = [block for block in turn["blocks"] if "result" in block]
            results.sort(key=lambda block: places.get(block["id"], 0))
            following = iter(results)
            turn["blocks"] = [next(following) if "result" in block else block for block in turn["blocks"]]
    return turns


def _last_asked(turns: list[Turn]) -> int:
    return max((at for at, turn in enumerate(turns) if turn["role"] in ("user", "developer")), default=-1)


def _said(turn: Turn) -> str:
    if turn["role"] == "user":
        blocks = [
            f"<tool_result>{each['result']}</tool_result>" if "result" in each else each["text"]
            for each in turn["blocks"]
        ]
        return USER + "\n\n".join(blocks)
    text = {"system": "", "developer": USER, "latest_reminder": "<｜latest_reminder｜>"}[turn["role"]] + turn["content"]
    if turn.get("tools"):
        text += tools_text(turn["tools"])
    if "response_format" in turn:
        text += "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"
        text += _json(turn["response_format"])
    return text


def answer_text(turn: Turn, keeps_thinking: bool) -> str:
    text = turn.get("reasoning_content", "") + "</think>" if keeps_thinking else ""
    text += turn.get("content", "")
    if turn.get("tool_calls"):
        text += "\n\n<｜DSML｜tool_calls>\n" + "\n".join(map(_call, turn["tool_calls"])) + "\n</｜DSML｜tool_calls>"
    return text + EOS


def _call(call: Turn) -> str:
    lines = [
        f'<｜DSML｜parameter name="{name}" string="true">{value}</｜DSML｜parameter>'
        if isinstance(value, str)
        else f'<｜DSML｜parameter name="{name}" string="false">{_json(value)}</｜DSML｜parameter>'
        for name, value in given_arguments(call["function"]).items()
    ]
    return f'<｜DSML｜invoke name="{call["function"]["name"]}">\n' + "\n".join(lines) + "\n</｜DSML｜invoke>"


def given_arguments(function: Turn) -> Turn:
    """Text where arguments were no JSON."""
    given = function["arguments"]
    return {"arguments": given} if isinstance(given, str) else given


def _what_follows(turn: Turn, thinks: bool, opens_thinking: bool) -> str:
    if turn.get("task") is not None:
        opening = ASSISTANT + ("<think>" if thinks else "</think>") if turn["task"] == "action" else ""
        return opening + f"<｜{turn['task']}｜>"
    if turn["role"] in ("user", "developer"):
        return ASSISTANT + ("<think>" if opens_thinking else "</think>")
    return ""


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def tools_text(tools: list[Turn]) -> str:
    return _TOOLS.replace("SCHEMAS", "\n".join(_json(tool["function"]) for tool in tools))
