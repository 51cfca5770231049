"""The `openai` SDK over Responses."""

from __future__ import annotations

import json
from typing import Any

import openai
from pydantic import BaseModel

from .driving import CITY_SCHEMA, MODEL, Outcome, Server, drive, get_weather

_TOOLS: list[Any] = [{"type": "function", "name": "get_weather", "parameters": CITY_SCHEMA, "strict": False}]


class Person(BaseModel):
    name: str
    age: int


def _client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)


def _ask(server: Server, text: Any, **options: Any) -> Any:
    return _client(server).responses.create(**{"model": MODEL, "input": text, **options})


def _calls(response: Any) -> list[Any]:
    return [item for item in response.output if item.type == "function_call"]


def plain(server: Server) -> Outcome:
    return {"text": _ask(server, "say hello").output_text}


def streaming(server: Server) -> Outcome:
    with _client(server).responses.stream(model=MODEL, input="say hello") as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == "".join(pieces)
    return {"text": "".join(pieces), "in_pieces": len(pieces) > 1}


def tools(server: Server, question: str = "weather in one city") -> Outcome:
    """The second turn names the first, and sends the results alone."""
    first = _ask(server, question, tools=_TOOLS)
    calls = [[call.name, json.loads(call.arguments)] for call in _calls(first)]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": get_weather(**json.loads(call.arguments))}
        for call in _calls(first)
    ]
    last = _ask(server, results, tools=_TOOLS, previous_response_id=first.id)
    return {"calls": calls, "text": last.output_text}


def streamed_tools(server: Server) -> Outcome:
    with _client(server).responses.stream(model=MODEL, input="weather in one city", tools=_TOOLS) as stream:
        response = stream.get_final_response()
    return {"calls": [[call.name, json.loads(call.arguments)] for call in _calls(response)]}


def parallel_tools(server: Server) -> Outcome:
    return tools(server, "weather in two cities")


def structured(server: Server) -> Outcome:
    person = _client(server).responses.parse(model=MODEL, input="describe Ada", text_format=Person).output_parsed
    assert person is not None
    return {"value": person.model_dump()}


def reasoning(server: Server) -> Outcome:
    response = _ask(server, "think first", reasoning={"effort": "low", "summary": "auto"})
    thoughts = [part.text for item in response.output if item.type == "reasoning" for part in item.summary]
    return {"reasoning": "".join(thoughts), "text": response.output_text}


def wrong_field(server: Server) -> Outcome:
    return {"answered": _ask(server, "say hello", temperature=9).id}


def broken_stream(server: Server) -> Outcome:
    """The SDK hands the event on as it does all others."""
    *_, last = _ask(server, "fall over", stream=True)
    return {"error": [last.type], "message": last.response.error.message}


def ask(server: Server, text: str, model: str) -> Any:
    return _ask(server, text, model=model)


CASES = [plain, streaming, tools, streamed_tools, parallel_tools, structured]
CASES += [reasoning, wrong_field, broken_stream]

if __name__ == "__main__":
    drive(CASES, ask)
