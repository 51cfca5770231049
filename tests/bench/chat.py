"""A client that costs little: streamed chats, many at once, each piece's time written down."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .gpu_client import Stream, events

_TIMEOUT_SECONDS = 400
_WORDS = (
    "time way year work government day man world life part house course case system place end group company party "
    "information school fact money point example state business night area water thing family head hand order side "
    "home development week power country council use service room market problem court lot war police interest car"
)
Messages = list[dict[str, str]]


def words(count: int, seed: int) -> str:
    """About as many tokens; no two seeds share a beginning."""
    dice = random.Random(seed)
    return f"{seed} " + " ".join(dice.choices(_WORDS.split(), k=count))


def asks(text: str) -> Messages:
    return [{"role": "user", "content": text}]


@dataclass(frozen=True, slots=True)
class Chat:
    """One request: `delay` seconds after the first of its company."""

    messages: Messages
    max_tokens: int
    temperature: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class ChatClient:
    """`texts` are answers that are to be the same from every server, by figure."""

    port: int
    model: str
    texts: dict[str, str] = field(default_factory=dict)

    def ask(self, *chats: Chat) -> list[Stream]:
        async def all_of_them() -> list[Stream]:
            return await asyncio.gather(*(self._stream(chat) for chat in chats))

        return asyncio.run(asyncio.wait_for(all_of_them(), _TIMEOUT_SECONDS))

    def ask_beside(self, running: list[Chat], late: Chat, after: int) -> tuple[list[Stream], Stream]:
        """`late` comes once each of the others has `after` pieces or one has ended. Their times are those since."""

        async def both() -> tuple[list[Stream], Stream]:
            streams: list[Stream] = []
            ready = asyncio.Event()

            def arrived() -> None:
                if len(streams) == len(running) and all(len(stream.times) >= after for stream in streams):
                    ready.set()

            tasks = [asyncio.create_task(self._stream(chat, streams.append, arrived)) for chat in running]
            for task in tasks:
                task.add_done_callback(lambda _: ready.set())
            await ready.wait()
            began = time.perf_counter()
            answer = await self._stream(late)
            await asyncio.gather(*tasks)
            for stream in streams:
                last_before = max((moment for moment in stream.times if moment <= began), default=began)
                stream.times = [moment for moment in stream.times if moment >= last_before] or [began]
            return streams, answer

        return asyncio.run(asyncio.wait_for(both(), _TIMEOUT_SECONDS))

    async def _stream(
        self, chat: Chat, started: Callable[[Stream], None] = lambda _: None, arrived: Callable[[], None] = lambda: None
    ) -> Stream:
        await asyncio.sleep(chat.delay)
        sampling = {"temperature": chat.temperature, **({"top_p": 0.9} if chat.temperature else {})}
        body = {"model": self.model, "messages": chat.messages, "max_tokens": chat.max_tokens, **sampling}
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        stream = Stream(time.perf_counter())
        started(stream)
        async for chunk in events(self.port, "/v1/chat/completions", asked):
            _take(stream, chunk)
            arrived()
        if not stream.times:  # an answer whose only token has no text
            stream.times.append(time.perf_counter())
        return stream


def _take(stream: Stream, chunk: dict[str, Any]) -> None:
    choice = (chunk.get("choices") or [{}])[0]
    text = (choice.get("delta") or {}).get("content") or ""
    if text or (choice.get("finish_reason") and not stream.times):
        stream.times.append(time.perf_counter())
        stream.text += text
    if usage := chunk.get("usage"):
        stream.tokens = usage["completion_tokens"]
