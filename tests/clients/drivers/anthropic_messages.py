"""The `anthropic` SDK over Messages."""

from __future__ import annotations

import json
from typing import Any

import anthropic

from .driving import CITY_SCHEMA, MODEL, PERSON_SCHEMA, Outcome, Server, drive, get_weather

_TOOLS: list[Any] = [{"name": "get_weather", "input_schema": CITY_SCHEMA}]


def _client(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0)


def _arguments(text: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 1000, **options}


def _ask(server: Server, text: str, **options: Any) -> Any:
    return _client(server).messages.create(**_arguments(text, options))


def _text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def _calls(message: Any) -> list[Any]:
    return [block for block in message.content if block.type == "tool_use"]


def plain(server: Server) -> Outcome:
    message = _ask(server, "say hello")
    assert message._request_id.startswith("req_")
    return {"text": _text(message)}


def streaming(server: Server) -> Outcome:
    with _client(server).messages.stream(**_arguments("say hello", {})) as stream:
        pieces = list(stream.text_stream)
        assert stream.get_final_message().stop_reason == "end_turn"
    return {"text": "".join(pieces), "in_pieces": len(pieces) > 1}


def tools(server: Server, question: str = "weather in one city") -> Outcome:
    first = _ask(server, question, tools=_TOOLS)
    assert first.stop_reason == "tool_use"
    calls = _calls(first)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": get_weather(**call.input)} for call in calls]
    turns = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    last = _ask(server, "", messages=turns, tools=_TOOLS)
    return {"calls": [[call.name, call.input] for call in calls], "text": _text(last)}


def streamed_tools(server: Server) -> Outcome:
    with _client(server).messages.stream(**_arguments("weather in one city", {"tools": _TOOLS})) as stream:
        message = stream.get_final_message()
    return {"calls": [[call.name, call.input] for call in _calls(message)]}


def parallel_tools(server: Server) -> Outcome:
    return tools(server, "weather in two cities")


def structured(server: Server) -> Outcome:
    config = {"format": {"type": "json_schema", "schema": PERSON_SCHEMA}}
    return {"value": json.loads(_text(_ask(server, "describe Ada", output_config=config)))}


def reasoning(server: Server) -> Outcome:
    """The thinking comes with a signature, and the next turn takes it back."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    message = _ask(server, "think first", thinking=thinking, max_tokens=2000)
    block = message.content[0]
    assert block.signature
    turns = [
        {"role": "user", "content": "think first"},
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": "say hello"},
    ]
    assert _text(_ask(server, "", messages=turns)) == "Hello, 世界!"
    return {"reasoning": block.thinking, "text": _text(message)}


def wrong_field(server: Server) -> Outcome:
    return {"answered": _ask(server, "say hello", extra_body={"temperature": 9}).id}


def broken_stream(server: Server) -> Outcome:
    with _client(server).messages.stream(**_arguments("fall over", {})) as stream:
        return {"text": "".join(stream.text_stream)}


def ask(server: Server, text: str, model: str) -> Any:
    return _ask(server, text, model=model)


CASES = [plain, streaming, tools, streamed_tools, parallel_tools, structured]
CASES += [reasoning, wrong_field, broken_stream]

if __name__ == "__main__":
    drive(CASES, ask)
