"""The `llm` library. It shows no thinking of Chat Completions, so that case goes over Responses."""

from __future__ import annotations

import json
from typing import Any

from llm.default_plugins.openai_models import Chat, Responses  # pyright: ignore[reportMissingImports]

from .driving import MODEL, PERSON_SCHEMA, Outcome, Server, drive, get_weather


def _model(server: Server, model: str = MODEL, kind: Any = Chat, **options: Any) -> Any:
    made = kind(
        model_id="omlx",
        model_name=model,
        api_base=f"{server.url}/v1",
        supports_schema=True,
        supports_tools=True,
        **options,
    )
    made.key = server.key
    return made


def plain(server: Server) -> Outcome:
    return {"text": _model(server).prompt("say hello", stream=False).text()}


def streaming(server: Server) -> Outcome:
    pieces = [piece for piece in _model(server).prompt("say hello") if piece]
    return {"text": "".join(pieces), "in_pieces": len(pieces) > 1}


def tools(server: Server, question: str = "weather in one city", stream: bool = False) -> Outcome:
    calls: list[Any] = []
    chain = _model(server).chain(
        question,
        tools=[get_weather],
        stream=stream,
        before_call=lambda _, call: calls.append([call.name, call.arguments]),
    )
    *_, last = chain.responses()
    return {"calls": calls, "text": last.text()}


def streamed_tools(server: Server) -> Outcome:
    return {"calls": tools(server, stream=True)["calls"]}


def parallel_tools(server: Server) -> Outcome:
    return tools(server, "weather in two cities")


def structured(server: Server) -> Outcome:
    return {"value": json.loads(_model(server).prompt("describe Ada", schema=PERSON_SCHEMA).text())}


def reasoning(server: Server) -> Outcome:
    response = _model(server, kind=Responses, reasoning=True).prompt("think first")
    events = list(response.stream_events())
    thoughts = [event.chunk for event in events if event.type == "reasoning"]
    return {"reasoning": "".join(thoughts), "text": "".join(e.chunk for e in events if e.type == "text")}


def wrong_field(server: Server) -> Outcome:
    return {"answered": _model(server).prompt("say hello", seed=2**64).text()}


def broken_stream(server: Server) -> Outcome:
    return {"pieces": len(list(_model(server).prompt("fall over")))}


def ask(server: Server, text: str, model: str) -> Any:
    return _model(server, model).prompt(text).text()


CASES = [plain, streaming, tools, streamed_tools, parallel_tools, structured]
CASES += [reasoning, wrong_field, broken_stream]

if __name__ == "__main__":
    drive(CASES, ask)
