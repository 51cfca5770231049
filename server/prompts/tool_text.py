"""Tools, calls and results as text: for templates that cannot render them, and for tools named later.

The form is the one Hermes models were trained on; the parser of that form reads it back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..requests import Json, ToolCall, ToolDefinition

_INSTRUCTIONS = """# Tools

You can call functions. Their signatures stand between <tools> and </tools>, one JSON object a line:
<tools>
{signatures}
</tools>

To call one, write a JSON object with its name and arguments between <tool_call> and </tool_call>:
<tool_call>
{{"name": "function-name", "arguments": {{"argument": "value"}}}}
</tool_call>
Results come back between <tool_response> and </tool_response>."""


def canonical_json(value: object) -> str:
    """The one way this server writes JSON into a prompt."""
    return json.dumps(value, ensure_ascii=False)


def parsed_arguments(call: ToolCall) -> dict[str, Json]:
    """The call's arguments as an object; what is not one is kept under the key `raw`."""
    try:
        value = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):  # nesting deeper than any template could render
        value = call.arguments
    return value if isinstance(value, dict) else {"raw": value}


def tool_schema(tool: ToolDefinition) -> dict[str, Any]:
    """The definition in the shape templates expect."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def tools_section(tools: Sequence[ToolDefinition]) -> str:
    signatures = "\n".join(canonical_json(tool_schema(tool)) for tool in tools)
    return _INSTRUCTIONS.format(signatures=signatures)


def call_text(name: str, arguments: Mapping[str, Json]) -> str:
    return f"<tool_call>\n{canonical_json({'name': name, 'arguments': arguments})}\n</tool_call>"


def result_text(text: str) -> str:
    return f"<tool_response>\n{text}\n</tool_response>"


def references_text(names: Sequence[str], tools: Mapping[str, ToolDefinition]) -> str:
    """The definitions of tools that a result names, in the form that tool search promises its model."""
    functions: list[str] = []
    for name in names:
        tool = tools.get(name)
        if tool is None:
            functions.append(f"<function>{canonical_json({'name': name, 'error': 'not available'})}</function>")
        else:
            value = {"description": tool.description, "name": tool.name, "parameters": tool.parameters}
            functions.append(f"<function>{canonical_json(value)}</function>")
    return "<functions>" + "\n".join(functions) + "</functions>"
