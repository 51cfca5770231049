"""LiteLLM as a library, over Chat Completions and, with a third argument `anthropic`, over Messages."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch the list of prices at import

import litellm  # pyright: ignore[reportMissingImports]

from .driving import CITY_SCHEMA, MODEL, PERSON_SCHEMA, Outcome, Server, drive, get_weather

_TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": CITY_SCHEMA}}]
_PROVIDER = "anthropic" if "anthropic" in sys.argv else "openai"


def _ask(server: Server, content: Any, model: str = MODEL, **options: Any) -> Any:
    """`content` is one question, or the whole conversation."""
    messages = [{"role": "user", "content": content}] if isinstance(content, str) else content
    base = server.url if _PROVIDER == "anthropic" else f"{server.url}/v1"
    name = f"{_PROVIDER}/{model}"
    return litellm.completion(name, messages, api_base=base, api_key=server.key, max_retries=0, **options)


def _calls(message: Any) -> list[Any]:
    return [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls or []]


def plain(server: Server) -> Outcome:
    return {"text": _ask(server, "say hello").choices[0].message.content}


def streaming(server: Server) -> Outcome:
    chunks = list(_ask(server, "say hello", stream=True))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    return {"text": "".join(pieces), "in_pieces": len(pieces) > 1}


def tools(server: Server, question: str = "weather in one city") -> Outcome:
    messages: list[Any] = [{"role": "user", "content": question}]
    message = _ask(server, messages, tools=_TOOLS).choices[0].message
    messages.append(message.model_dump())
    calls = _calls(message)
    for call, (_, arguments) in zip(message.tool_calls, calls, strict=True):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": get_weather(**arguments)})
    last = _ask(server, messages, tools=_TOOLS).choices[0].message
    return {"calls": calls, "text": last.content}


def streamed_tools(server: Server) -> Outcome:
    chunks = list(_ask(server, "weather in one city", tools=_TOOLS, stream=True))
    answer: Any = litellm.stream_chunk_builder(chunks)
    return {"calls": _calls(answer.choices[0].message)}


def parallel_tools(server: Server) -> Outcome:
    return tools(server, "weather in two cities")


def structured(server: Server) -> Outcome:
    schema = {"name": "person", "schema": PERSON_SCHEMA, "strict": True}
    wanted = {"type": "json_schema", "json_schema": schema}
    return {"value": json.loads(_ask(server, "describe Ada", response_format=wanted).choices[0].message.content)}


def reasoning(server: Server) -> Outcome:
    effort = {"reasoning_effort": "low", "allowed_openai_params": ["reasoning_effort"]}
    message = _ask(server, "think first", **effort).choices[0].message
    return {"reasoning": message.reasoning_content, "text": message.content}


def wrong_field(server: Server) -> Outcome:
    return {"answered": _ask(server, "say hello", temperature=9).id}


def broken_stream(server: Server) -> Outcome:
    return {"chunks": len(list(_ask(server, "fall over", stream=True)))}


def ask(server: Server, text: str, model: str) -> Any:
    return _ask(server, text, model)


CASES = [plain, streaming, tools, streamed_tools, parallel_tools, structured]
CASES += [reasoning, wrong_field, broken_stream]

if __name__ == "__main__":
    drive(CASES, ask)
