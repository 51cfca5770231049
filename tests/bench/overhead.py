"""What the server itself costs: `python -m tests.bench.overhead`, with `--write` into docs/performance.md.

The engine takes no time here, so what is measured is HTTP, the dialects, the chat template, the tokenizer and
the parsers. Run it on an otherwise idle machine; CPU figures bear company better than times.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx

from omlx.server.dialects import anthropic_messages, openai_chat
from omlx.server.dialects.base import Dialect
from omlx.server.dialects.openai_response_store import ResponseStore
from omlx.server.dialects.openai_responses import ResponsesDialect

from .overhead_server import INSTANT, PACED, TOKENS_AN_ANSWER

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "performance.md"
_AGENT_BYTES = 180_000
_CLIENTS = (16, 64)
_SHORT = 16
_USER = [{"role": "user", "content": "How are you today?"}]
_DIALECTS = {
    "Chat Completions": ("/v1/chat/completions", {"messages": _USER}),
    "Messages": ("/v1/messages", {"messages": _USER, "max_tokens": 16}),
    "Responses": ("/v1/responses", {"input": "How are you today?", "store": False}),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure with what it is meant to stay under; `None` where it is there for comparison."""

    name: str
    value: float
    limit: float | None
    unit: str

    @property
    def row(self) -> str:
        goal = "" if self.limit is None else f"under {self.limit:g} {self.unit}"
        return f"| {self.name} | {self.value:.2f} {self.unit} | {goal} |"


@contextmanager
def overhead_server() -> Iterator[str]:
    """The server of `overhead_server`; its base URL."""
    with tempfile.TemporaryDirectory() as home:
        argv = [sys.executable, "-m", "tests.bench.overhead_server", home]
        process = subprocess.Popen(argv, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()
            process.wait(30)


def agent_body(num_bytes: int = _AGENT_BYTES, dialect: str = "Messages") -> bytes:
    """A coding agent's request in the middle of its work: 20 tools, then turns of calls and results."""
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in ("path", "pattern", "old", "new")}}
    described = {"name": "", "description": "Does one thing to files, as its name says. " * 20}
    body: dict[str, Any] = {"model": INSTANT, "max_tokens": 16}
    turns: list[Any] = []
    if dialect == "Messages":
        body |= {"system": [{"type": "text", "text": "You are a coding agent. " * 400}], "messages": turns}
        body["tools"] = [{**described, "name": f"tool_{number}", "input_schema": schema} for number in range(20)]
    else:
        body |= {"messages": turns, "tools": []}
        turns.append({"role": "system", "content": "You are a coding agent. " * 400})
        for number in range(20):
            function = {**described, "name": f"tool_{number}", "parameters": schema}
            body["tools"].append({"type": "function", "function": function})
    while len(json.dumps(body)) < num_bytes:
        turns.extend(_turn(len(turns), dialect))
    if dialect == "Responses":
        body = {"model": INSTANT, "input": [_item(turn) for turn in turns], "tools": _flat(body["tools"])}
    return json.dumps(body).encode()


def _turn(number: int, dialect: str) -> list[Any]:
    arguments = {"path": f"src/module_{number}.py", "pattern": "def \\w+"}
    result = "".join(f"{line}: def function_{line}(argument): return 'a line of code'\n" for line in range(40))
    call_id = f"call_{number}"
    if dialect == "Messages":
        call = {"type": "tool_use", "id": call_id, "name": "tool_3", "input": arguments}
        said = [{"type": "text", "text": "Let me look at the file."}, call]
        results = [{"type": "tool_result", "tool_use_id": call_id, "content": result}]
        roles = [("user", "Go on."), ("assistant", said), ("user", results)]
        return [{"role": role, "content": content} for role, content in roles]
    function = {"name": "tool_3", "arguments": json.dumps(arguments)}
    calls = [{"id": call_id, "type": "function", "function": function}]
    return [
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "Let me look at the file.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": call_id, "content": result},
    ]


def _item(turn: Any) -> Any:
    if turn["role"] == "tool":
        return {"type": "function_call_output", "call_id": turn["tool_call_id"], "output": turn["content"]}
    if calls := turn.get("tool_calls"):
        return {"type": "function_call", "call_id": calls[0]["id"], **calls[0]["function"]}
    return {"role": turn["role"], "content": turn["content"]}


def _flat(tools: list[Any]) -> list[Any]:
    return [{"type": "function", **tool["function"]} for tool in tools]


def decode_milliseconds(rounds: int = 50) -> list[Figure]:
    """How long each dialect takes to read the agent's request, in CPU time."""
    dialects: dict[str, Dialect] = {
        "Chat Completions": openai_chat,
        "Messages": anthropic_messages,
        "Responses": ResponsesDialect(ResponseStore()),
    }
    figures = []
    for name, dialect in dialects.items():
        body = agent_body(dialect=name)
        times = []
        for _ in range(rounds):
            began = time.process_time()
            dialect.decode(body, "req_1")
            times.append(1000 * (time.process_time() - began))
        figures.append(Figure(f"{len(body) // 1000} KB agent request decoded, {name}", median(times), 2, "ms"))
    return figures


def request_milliseconds(url: str, requests: int) -> list[Figure]:
    """A small request from the client's side, the engine's answer being there at once."""
    figures = []
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port)
    for name, (path, body) in _DIALECTS.items():
        for stream in (False, True):
            content = json.dumps({"model": INSTANT, "stream": stream, **body}).encode()
            times = _times(connection, path, content, requests)
            form = "streamed" if stream else "whole"
            figures.append(Figure(f"request, p50, {name}, {form}", median(times), 3, "ms"))
    connection.close()
    return figures


def _times(connection: http.client.HTTPConnection, path: str, content: bytes, count: int) -> list[float]:
    """Of `count` requests after a few to warm up. Python's plainest client: what it costs is in the figure."""
    times = []
    for _ in range(count + 20):
        began = time.perf_counter()
        connection.request("POST", path, content, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        times.append(1000 * (time.perf_counter() - began))
    return times[20:]


async def token_microseconds(url: str) -> list[Figure]:
    """CPU time of the API process for each token streamed to so many of `_CLIENTS` at once. What a request takes before
    its first tokens is not in it: that is what short answers cost, which are taken off."""
    figures = []
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=80)) as client:
        for clients, (name, (path, body)) in product(_CLIENTS, {**_DIALECTS, "bare ASGI": ("/bare", {})}.items()):
            asked = {"model": PACED, "stream": True, **body}
            num_tokens = TOKENS_AN_ANSWER * min(_CLIENTS) // clients
            await _cpu_seconds(client, clients, path, asked, _SHORT)  # the first of its kind
            short = await _cpu_seconds(client, clients, path, asked, _SHORT)
            spent = await _cpu_seconds(client, clients, path, asked, num_tokens) - short
            per_token = 1e6 * spent / (clients * (num_tokens - _SHORT))
            limit = None if path == "/bare" else 20
            figures.append(Figure(f"CPU a streamed token, {clients} clients, {name}", per_token, limit, "µs"))
    return figures


async def _cpu_seconds(
    client: httpx.AsyncClient, clients: int, path: str, asked: dict[str, Any], num_tokens: int
) -> float:
    """What the API process takes for an answer of so many tokens to each client."""
    asked = {**asked, "max_tokens": num_tokens, "max_output_tokens": num_tokens}
    before = float((await client.get("/cpu")).text)
    await asyncio.gather(*(_drain(client, path, asked) for _ in range(clients)))
    return float((await client.get("/cpu")).text) - before


async def _drain(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    async with client.stream("POST", path, json=body) as response:
        response.raise_for_status()
        async for _ in response.aiter_raw():
            pass


def section(figures: list[Figure], machine: str) -> str:
    """The part of docs/performance.md that this program writes."""
    rows = "\n".join(figure.row for figure in figures)
    return f"""## What the server itself costs

`python -m tests.bench.overhead --write`, {datetime.now(UTC):%Y-%m-%d}, on {machine}. The engine takes no time here:
what is left is HTTP, dialect, chat template, tokenizer, parser, and the way between the processes. "Bare ASGI" writes
as many pieces at the same pace through the same HTTP server and does nothing else: it is the floor of this machine.
What a request costs before its first tokens is not in the figures of a token.

| what | measured | goal |
|---|---|---|
{rows}
"""


def write(text: str, page: Path = _PAGE) -> None:
    """Put the section where it stood, or at the end; other sections stay as they are."""
    old = page.read_text() if page.is_file() else "# Performance\n"
    head = text.splitlines()[0]
    found = re.search(rf"^{re.escape(head)}\n.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
    new = old[: found.start()] + text + ("\n" if old[found.end() :] else "") + old[found.end() :] if found else None
    page.write_text(new if new is not None else f"{old.rstrip()}\n\n{text}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overhead", description=__doc__)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--machine", default="two shared cores, Debian 12")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    options = parser.parse_args()
    figures = decode_milliseconds()
    with overhead_server() as url:
        figures += request_milliseconds(url, options.requests)
        figures += asyncio.run(token_microseconds(url))
    text = section(figures, options.machine)
    print(text)
    if options.write:
        write(text)
    return int(any(figure.limit is not None and figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
