"""The `openai` SDK over Chat Completions."""

from __future__ import annotations

import json
from typing import Any

import openai
from pydantic import BaseModel

from .driving import CITY_SCHEMA, MODEL, Outcome, Server, drive, get_weather

_TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": CITY_SCHEMA}}]


class Person(BaseModel):
    name: str
    age: int


def _client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)


def _ask(server: Server, text: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return _client(server).chat.completions.create(**{"model": MODEL, "messages": messages, **options})


def plain(server: Server) -> Outcome:
    completion = _ask(server, "say hello")
    assert completion._request_id.startswith("req_")
    return {"text": completion.choices[0].message.content}


def streaming(server: Server) -> Outcome:
    chunks = list(_ask(server, "say hello", stream=True, stream_options={"include_usage": True}))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert chunks[-1].usage.completion_tokens == len("Hello, 世界!".encode())
    return {"text": "".join(pieces), "in_pieces": len(pieces) > 1}


def tools(server: Server, question: str = "weather in one city") -> Outcome:
    messages: list[Any] = [{"role": "user", "content": question}]
    client = _client(server)
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=_TOOLS).choices[0]
    assert first.finish_reason == "tool_calls"
    messages.append(first.message)
    calls = []
    for call in first.message.tool_calls or []:
        assert call.type == "function"
        arguments = json.loads(call.function.arguments)
        calls.append([call.function.name, arguments])
        messages.append({"role": "tool", "tool_call_id": call.id, "content": get_weather(**arguments)})
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=_TOOLS).choices[0]
    return {"calls": calls, "text": last.message.content}


def streamed_tools(server: Server) -> Outcome:
    messages: list[Any] = [{"role": "user", "content": "weather in one city"}]
    with _client(server).chat.completions.stream(model=MODEL, messages=messages, tools=_TOOLS) as stream:
        message = stream.get_final_completion().choices[0].message
    calls = [call.function for call in message.tool_calls or [] if call.type == "function"]
    return {"calls": [[call.name, json.loads(call.arguments)] for call in calls]}


def parallel_tools(server: Server) -> Outcome:
    return tools(server, "weather in two cities")


def structured(server: Server) -> Outcome:
    messages: list[Any] = [{"role": "user", "content": "describe Ada"}]
    answer = _client(server).chat.completions.parse(model=MODEL, messages=messages, response_format=Person)
    person = answer.choices[0].message.parsed
    assert person is not None
    return {"value": person.model_dump()}


def reasoning(server: Server) -> Outcome:
    message = _ask(server, "think first", reasoning_effort="low").choices[0].message
    return {"reasoning": message.reasoning_content, "text": message.content}


def wrong_field(server: Server) -> Outcome:
    return {"answered": _ask(server, "say hello", temperature=9).id}


def broken_stream(server: Server) -> Outcome:
    return {"chunks": len(list(_ask(server, "fall over", stream=True)))}


def ask(server: Server, text: str, model: str) -> Any:
    return _ask(server, text, model=model)


CASES = [plain, streaming, tools, streamed_tools, parallel_tools, structured]
CASES += [reasoning, wrong_field, broken_stream]

if __name__ == "__main__":
    drive(CASES, ask)
