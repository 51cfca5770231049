# ruff: noqa: RUF001  (full-width bars are what it is about)
"""DeepSeek V4's thinking and calls come as text: every dialect has each in its own place, and no mark of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..text_model import DEEPSEEK_V4_MARKS, build_deepseek_v4_text_model
from .serving import MODEL, Serving, serving
from .test_server import records

Json = dict[str, Any]
THOUGHT, TEXT, ARGUMENTS = "Where? a < b.", "One moment.", {"place": "a < b", "size": 2}
MARKS = ("think>", "DSML", "｜", "tool_calls>", "<invoke", "parameter name")
SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}, "size": {"type": "integer"}}}
USER = [{"role": "user", "content": "Where?"}]
CHAT_TOOL = {"type": "function", "function": {"name": "look", "description": "Looks", "parameters": SCHEMA}}
BODIES: dict[str, Json] = {
    "/v1/chat/completions": {"messages": USER, "tools": [CHAT_TOOL]},
    "/v1/messages": {
        "messages": USER,
        "max_tokens": 1000,
        "tools": [{"name": "look", "description": "Looks", "input_schema": SCHEMA}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    },
    "/v1/responses": {
        "input": "Where?",
        "tools": [{"type": "function", "name": "look", "description": "Looks", "parameters": SCHEMA}],
    },
}


def answer_of(bar: str, *, opens: bool) -> str:
    """What the model writes; the prompt has opened its thinking, or it opens it by itself."""
    lead = "<think>" if opens else ""
    return (
        f'{lead}{THOUGHT}</think>{TEXT}\n\n<{bar}DSML{bar}tool_calls>\n<{bar}DSML{bar}invoke name="look">\n'
        f'<{bar}DSML{bar}parameter name="place" string="true">{ARGUMENTS["place"]}</{bar}DSML{bar}parameter>\n'
        f'<{bar}DSML{bar}parameter name="size" string="false">2</{bar}DSML{bar}parameter>\n'
        f"</{bar}DSML{bar}invoke>\n</{bar}DSML{bar}tool_calls>"
    )


def v4(folder: Path, *answers: str) -> Any:
    return serving(folder, *answers, build=build_deepseek_v4_text_model, end_of_turn=DEEPSEEK_V4_MARKS[1])


async def ask(server: Serving, path: str, *, stream: bool, **fields: Any) -> Any:
    body = {"model": MODEL, **BODIES[path], "stream": stream, **fields}
    answer = (await server.client.post(path, json=body)).raise_for_status()
    return records(answer.text) if stream else answer.json()


def parts(path: str, answer: Any, *, stream: bool) -> tuple[str, str, list[Json]]:
    """The thinking, the text, and the calls' names and arguments."""
    if path == "/v1/responses":
        response = answer[-1]["response"] if stream else answer
        return _of_items(response["output"])
    if path == "/v1/messages":
        return _of_blocks(_blocks(answer) if stream else answer["content"])
    chunks = answer if stream else [answer]
    return _of_messages([choice["delta" if stream else "message"] for each in chunks for choice in each["choices"]])


def _of_items(items: list[Json]) -> tuple[str, str, list[Json]]:
    thought = [part["text"] for item in items if item["type"] == "reasoning" for part in item.get("content") or []]
    thought = thought or [part["text"] for item in items if item["type"] == "reasoning" for part in item["summary"]]
    text = [part["text"] for item in items if item["type"] == "message" for part in item["content"]]
    calls = [item for item in items if item["type"] == "function_call"]
    return "".join(thought), "".join(text), [_call(call["name"], call["arguments"]) for call in calls]


def _of_blocks(blocks: list[Json]) -> tuple[str, str, list[Json]]:
    told = {"thinking": "", "text": ""}
    for block in blocks:
        if block["type"] in told:
            told[block["type"]] += block[block["type"]]
    calls = [{"name": block["name"], "arguments": block["input"]} for block in blocks if block["type"] == "tool_use"]
    return told["thinking"], told["text"], calls


def _blocks(events: list[Json]) -> list[Json]:
    """The content blocks that a stream of events makes."""
    blocks: list[Json] = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(dict(event["content_block"]) | {"json": ""})
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            for key in ("thinking", "text"):
                if key in delta:
                    blocks[-1][key] += delta[key]
            blocks[-1]["json"] += delta.get("partial_json", "")
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["json"])
    return blocks


def _of_messages(messages: list[Json]) -> tuple[str, str, list[Json]]:
    thought = "".join(message.get("reasoning_content") or message.get("reasoning") or "" for message in messages)
    text = "".join(message.get("content") or "" for message in messages)
    names, arguments = dict[int, str](), dict[int, str]()
    for message in messages:
        for place, call in enumerate(message.get("tool_calls") or []):
            index = call.get("index", place)
            names[index] = names.get(index, "") + (call["function"].get("name") or "")
            arguments[index] = arguments.get(index, "") + (call["function"].get("arguments") or "")
    return thought, text, [_call(names[index], arguments[index]) for index in sorted(names)]


def _call(name: str, arguments: str) -> Json:
    return {"name": name, "arguments": json.loads(arguments)}


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts_in(inner)


@pytest.mark.parametrize(
    ("bar", "opens"), [("｜", False), ("|", True)], ids=["opened by the prompt", "opened by the model, in ASCII"]
)
async def test_thinking_text_and_calls_have_their_own_places(bar: str, opens: bool, tmp_path: Path) -> None:
    async with v4(tmp_path, answer_of(bar, opens=opens)) as server:
        for path, stream in itertools.product(BODIES, (False, True)):
            answer = await ask(server, path, stream=stream)
            thought, text, calls = parts(path, answer, stream=stream)
            assert (thought, text.strip(), calls) == (THOUGHT, TEXT, [{"name": "look", "arguments": ARGUMENTS}]), path
            told = "".join(texts_in(answer))
            assert not [mark for mark in MARKS if mark in told], (path, stream)


async def test_thinking_that_was_not_asked_for_is_not_told_as_text(tmp_path: Path) -> None:
    off: dict[str, Json] = {
        "/v1/chat/completions": {"chat_template_kwargs": {"thinking": False}},
        "/v1/messages": {"thinking": {"type": "disabled"}},
        "/v1/responses": {"reasoning": {"effort": "none"}},
    }
    async with v4(tmp_path, f"<think>{THOUGHT}</think>{TEXT}") as server:
        for path, fields in off.items():
            _, text, calls = parts(path, await ask(server, path, stream=False, **fields), stream=False)
            assert (text, calls) == (TEXT, []), path


async def test_a_completion_of_a_prompt_is_its_text_as_it_stands(tmp_path: Path) -> None:
    """Who writes the prompt's marks reads the answer's: control tokens are left out, and nothing is parsed."""
    written = answer_of("|", opens=False).replace("</think>", " ")
    async with v4(tmp_path, written) as server:
        body = {"model": MODEL, "prompt": "<｜User｜>Where?<｜Assistant｜><think>", "max_tokens": 1000}
        answer = (await server.client.post("/v1/completions", json=body)).raise_for_status().json()
    assert answer["choices"][0]["text"] == written
