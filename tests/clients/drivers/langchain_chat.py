"""LangChain's `ChatOpenAI`. It drops the thinking of Chat Completions, so that case goes over Responses."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage  # pyright: ignore[reportMissingImports]
from langchain_core.tools import tool  # pyright: ignore[reportMissingImports]
from langchain_openai import ChatOpenAI  # pyright: ignore[reportMissingImports]
from pydantic import BaseModel

from . import driving
from .driving import MODEL, Outcome, Server, drive

_WEATHER = tool(driving.get_weather)


class Person(BaseModel):
    name: str
    age: int


def _model(server: Server, model: str = MODEL, **options: Any) -> Any:
    return ChatOpenAI(model=model, base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, **options)


def _calls(message: Any) -> list[Any]:
    return [[call["name"], call["args"]] for call in message.tool_calls]


def plain(server: Server) -> Outcome:
    return {"text": _model(server).invoke("say hello").content}


def streaming(server: Server) -> Outcome:
    pieces = [chunk.content for chunk in _model(server).stream("say hello") if chunk.content]
    return {"text": "".join(pieces), "in_pieces": len(pieces) > 1}


def tools(server: Server, question: str = "weather in one city") -> Outcome:
    model = _model(server).bind_tools([_WEATHER])
    messages: list[Any] = [HumanMessage(question)]
    answer = model.invoke(messages)
    messages.append(answer)
    for call in answer.tool_calls:
        messages.append(ToolMessage(_WEATHER.invoke(call["args"]), tool_call_id=call["id"]))
    return {"calls": _calls(answer), "text": model.invoke(messages).content}


def streamed_tools(server: Server) -> Outcome:
    first, *rest = _model(server).bind_tools([_WEATHER]).stream("weather in one city")
    return {"calls": _calls(sum(rest, start=first))}


def parallel_tools(server: Server) -> Outcome:
    return tools(server, "weather in two cities")


def structured(server: Server) -> Outcome:
    person = _model(server).with_structured_output(Person).invoke("describe Ada")
    return {"value": person.model_dump()}


def reasoning(server: Server) -> Outcome:
    model = _model(server, use_responses_api=True, reasoning={"effort": "low", "summary": "auto"})
    blocks = model.invoke("think first").content_blocks
    thoughts = [block["reasoning"] for block in blocks if block["type"] == "reasoning"]
    return {"reasoning": "".join(thoughts), "text": "".join(b["text"] for b in blocks if b["type"] == "text")}


def wrong_field(server: Server) -> Outcome:
    return {"answered": _model(server, temperature=9).invoke("say hello").content}


def broken_stream(server: Server) -> Outcome:
    return {"chunks": len(list(_model(server).stream("fall over")))}


def ask(server: Server, text: str, model: str) -> Any:
    return _model(server, model).invoke(text)


CASES = [plain, streaming, tools, streamed_tools, parallel_tools, structured]
CASES += [reasoning, wrong_field, broken_stream]

if __name__ == "__main__":
    drive(CASES, ask)
