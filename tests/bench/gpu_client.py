"""A client that costs little: many streamed completions at once, each token's time written down."""

from __future__ import annotations

import asyncio
import json
import random
import string
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

_TIMEOUT_SECONDS = 90


@dataclass(slots=True)
class Stream:
    """One answer: when it was asked for, when each piece came, and how many tokens there were."""

    asked: float
    times: list[float] = field(default_factory=list)
    text: str = ""
    tokens: int = 0

    @property
    def first_seconds(self) -> float:
        return self.times[0] - self.asked

    @property
    def longest_gap(self) -> float:
        pairs = zip(self.times, self.times[1:], strict=False)
        return max((later - earlier for earlier, later in pairs), default=0.0)


@dataclass(frozen=True, slots=True)
class Client:
    """Speaks to one server. `model` is the model's name there."""

    port: int
    model: str

    def ask(self, prompts: list[str], max_tokens: int, temperature: float = 0.0) -> list[Stream]:
        """All prompts at once."""

        async def all_of_them() -> list[Stream]:
            return await asyncio.gather(*(self.stream(prompt, max_tokens, temperature) for prompt in prompts))

        return asyncio.run(asyncio.wait_for(all_of_them(), _TIMEOUT_SECONDS))

    def ask_beside(self, prompts: list[str], max_tokens: int, late: str, after: int) -> tuple[list[Stream], Stream]:
        """Start `prompts`, and `late` once each of them has `after` pieces. Their gaps are counted from then on."""

        async def both() -> tuple[list[Stream], Stream]:
            ready = asyncio.Event()
            streams: list[Stream] = []

            def arrived() -> None:
                if len(streams) == len(prompts) and all(len(stream.times) >= after for stream in streams):
                    ready.set()

            running = [
                asyncio.create_task(self.stream(prompt, max_tokens, 0.0, streams.append, arrived)) for prompt in prompts
            ]
            await ready.wait()
            began = time.perf_counter()
            answer = await self.stream(late, 1, 0.0)
            await asyncio.gather(*running)
            for stream in streams:
                last_before = max(moment for moment in stream.times if moment <= began)
                stream.times = [moment for moment in stream.times if last_before <= moment]
            return streams, answer

        return asyncio.run(asyncio.wait_for(both(), _TIMEOUT_SECONDS))

    async def stream(
        self,
        prompt: str,
        max_tokens: int,
        temperature: float,
        started: Callable[[Stream], None] = lambda _: None,
        arrived: Callable[[], None] = lambda: None,
    ) -> Stream:
        """Read one answer to its end."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": 0.9 if temperature else 1.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        stream = Stream(time.perf_counter())
        started(stream)
        async for chunk in events(self.port, "/v1/completions", body):
            self._take(stream, chunk, arrived)
        if not stream.times:
            raise RuntimeError("an answer without a piece of text")
        return stream

    def _take(self, stream: Stream, chunk: dict[str, object], arrived: Callable[[], None]) -> None:
        match chunk:
            case {"choices": [{"text": str(text), "finish_reason": reason}, *_]} if text or (
                reason and not stream.times
            ):
                stream.times.append(time.perf_counter())
                stream.text += text
                arrived()
            case _:
                pass
        match chunk:
            case {"usage": {"completion_tokens": int(tokens)}}:
                stream.tokens = tokens
            case _:
                pass


async def events(port: int, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Post the body to the server on this machine, and give what it streams, piece by piece.

    By hand, since a library's own work would be timed too. Raises `RuntimeError` for an answer other than 200.
    """
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        writer.write(head.encode() + content)
        async for line in reader:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
            elif line.startswith(b"HTTP/1.1 ") and b" 200 " not in line:
                raise RuntimeError((line + await reader.read(2000)).decode(errors="replace"))
            elif line.startswith(b"data: [DONE]"):
                break
    finally:
        writer.close()


def letters(count: int, seed: int) -> str:
    """A prompt of so many tokens that shares no beginning with another seed's."""
    dice = random.Random(seed)
    return "".join(dice.choices(string.ascii_lowercase, k=count))
