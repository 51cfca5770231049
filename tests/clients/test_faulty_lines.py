"""The official SDKs, with the retries they make by themselves, over lines that delay, cut, crumble and reset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from omlx.server import http_protocol

from ..api.serving import MODEL, Serving, serving
from ..api.test_server import num_running
from ..waiting import until
from .faulty_proxy import FaultyProxy, Line, faulty_proxy

HELLO = "Hello, 世界!"
LONG = "x" * 4000
SLOW = 0.05
"""Seconds a step: the long answer takes longer than `until` waits."""
MESSAGES: list[Any] = [{"role": "user", "content": "say hello"}]
UNBROKEN = [Line(delay=0.02), Line(size=1)]
BREAKING = [
    Line(request_bytes=0),
    Line(request_bytes=300),
    Line(answer_bytes=1),
    Line(answer_bytes=400),
]
"""Before a request, within it, before an answer, and within that."""
BROKEN = (openai.APIError, anthropic.APIError, httpx2.TransportError)


@dataclass(frozen=True, slots=True)
class Sdk:
    """`ask` and `stream` put a question and give the text of the answer, `stream` in pieces."""

    ask: Callable[..., Awaitable[str]]
    stream: Callable[..., AsyncIterator[str]]


async def ask_openai(url: str, timeout: float = 120.0) -> str:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", timeout=timeout) as client:
        completion = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        return completion.choices[0].message.content or ""


async def stream_openai(url: str) -> AsyncIterator[str]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client:
        async for chunk in await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            for choice in chunk.choices:
                yield choice.delta.content or ""


async def ask_anthropic(url: str, timeout: float = 120.0) -> str:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k", timeout=timeout) as client:
        message = await client.messages.create(model=MODEL, messages=MESSAGES, max_tokens=5000)
        return "".join(block.text for block in message.content if block.type == "text")


async def stream_anthropic(url: str) -> AsyncIterator[str]:
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key="k") as client,
        client.messages.stream(model=MODEL, messages=MESSAGES, max_tokens=5000) as stream,
    ):
        async for text in stream.text_stream:
            yield text


SDKS = [
    pytest.param(Sdk(ask_openai, stream_openai), id="openai"),
    pytest.param(Sdk(ask_anthropic, stream_anthropic), id="anthropic"),
]


@pytest.fixture(autouse=True)
def _patient_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte by byte a head takes its time on a busy machine."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 60.0)


@asynccontextmanager
async def faulty(server: Serving, *lines: Line) -> AsyncIterator[tuple[FaultyProxy, str]]:
    """A proxy before the server. Nothing hangs meanwhile, and nothing is held when it is over."""
    port = server.client.base_url.port
    assert port is not None
    async with asyncio.timeout(120), faulty_proxy(port, *lines) as proxy:
        yield proxy
        await until(lambda: num_running(server) == 0)
        await until(lambda: server.pool._loaded[MODEL].num_leases == 0)
        await until(lambda: server.budget.num_bytes == 0)
        assert not server.pool.engines[MODEL]._streams


@pytest.mark.parametrize("line", UNBROKEN, ids=["delayed", "byte by byte"])
@pytest.mark.parametrize("sdk", SDKS)
async def test_a_slow_line_changes_nothing(tmp_path: Path, sdk: Sdk, line: Line):
    async with serving(tmp_path, HELLO) as server, faulty(server, line, line) as (proxy, url):
        assert await sdk.ask(url) == HELLO
        assert "".join([piece async for piece in sdk.stream(url)]) == HELLO
        assert proxy.num_connections == 2


@pytest.mark.parametrize("resets", [False, True], ids=["cut", "reset"])
@pytest.mark.parametrize("line", BREAKING, ids=["before", "in the request", "before the answer", "in the answer"])
@pytest.mark.parametrize("sdk", SDKS)
async def test_a_line_that_breaks_costs_a_retry(tmp_path: Path, sdk: Sdk, line: Line, resets: bool):
    broken = Line(request_bytes=line.request_bytes, answer_bytes=line.answer_bytes, resets=resets)
    async with serving(tmp_path, HELLO) as server, faulty(server, broken) as (proxy, url):
        assert await sdk.ask(url) == HELLO
        assert proxy.num_connections == 2


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_stream_whose_line_breaks_before_its_first_byte_is_tried_again(tmp_path: Path, sdk: Sdk):
    broken = Line(request_bytes=300), Line(request_bytes=0, resets=True)
    async with serving(tmp_path, HELLO) as server, faulty(server, *broken) as (proxy, url):
        assert "".join([piece async for piece in sdk.stream(url)]) == HELLO
        assert proxy.num_connections == 3


@pytest.mark.parametrize("resets", [False, True], ids=["cut", "reset"])
@pytest.mark.parametrize("sdk", SDKS)
async def test_a_stream_whose_line_breaks_in_its_middle_ends_with_an_error_and_frees_its_row(
    tmp_path: Path, sdk: Sdk, resets: bool
):
    broken = Line(answer_bytes=6000, resets=resets)
    async with serving(tmp_path, LONG, HELLO, step_seconds=SLOW) as server, faulty(server, broken) as (_, url):
        received: list[str] = []
        with pytest.raises(BROKEN):
            await _collect(sdk.stream(url), received)
        assert 0 < len("".join(received)) < len(LONG)
        assert await sdk.ask(url) == HELLO


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_line_that_carries_nothing_is_given_up_for_another(tmp_path: Path, sdk: Sdk):
    async with serving(tmp_path, HELLO) as server, faulty(server, Line(), Line(delay=3600)) as (proxy, url):
        assert await sdk.ask(url) == HELLO  # it is loaded then
        assert await sdk.ask(url, timeout=3.0) == HELLO
        assert proxy.num_connections == 3


async def _collect(pieces: AsyncIterator[str], received: list[str]) -> None:
    async for piece in pieces:
        received.append(piece)
