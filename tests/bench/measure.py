"""Times answers as a client sees them: the first token, and the rate of those after it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from .servers import Contender, Running, running

_SUBJECTS = ("a lighthouse", "a clockmaker", "an old map", "a night train", "a garden", "a lost letter", "the harbour")


@dataclass(frozen=True, slots=True)
class Answer:
    """Seconds to the first token, and tokens a second after it."""

    first_token_seconds: float
    tokens_per_second: float


@dataclass(slots=True)
class Samples:
    """All that was measured of one server, in the order of the rounds."""

    start_seconds: list[float] = field(default_factory=list)
    first_token_seconds: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)


def measure(
    contenders: list[Contender], rounds: int, requests: int, max_tokens: int, log_folder: Path
) -> list[Samples]:
    """Each round starts every server once, alone; the order turns round with the rounds."""
    log_folder.mkdir(parents=True, exist_ok=True)
    samples = [Samples() for _ in contenders]
    for number in range(rounds):
        order = list(enumerate(contenders))
        for index, contender in order if number % 2 == 0 else reversed(order):
            with running(contender, log_folder / f"{contender.name}.log") as server:
                print(f"round {number + 1} of {rounds}: {contender.name}", file=sys.stderr, flush=True)
                samples[index].start_seconds.append(server.start_seconds)
                for request in range(requests):
                    answer = time_answer(server, prompt(number * requests + request), max_tokens)
                    samples[index].first_token_seconds.append(answer.first_token_seconds)
                    samples[index].tokens_per_second.append(answer.tokens_per_second)
    return samples


def prompt(number: int) -> str:
    """About 60 tokens; no two share a beginning that a prefix cache could use."""
    subject = _SUBJECTS[number % len(_SUBJECTS)]
    return (
        f"{number + 1}. Tell me a long and quiet story about {subject}. Begin with the weather, go on with the people "
        f"who live nearby, and let nothing be settled before the end. Do not make lists, and write whole sentences."
    )


def time_answer(server: Running, text: str, max_tokens: int) -> Answer:
    """Stream one greedy answer. The count of tokens is the server's own."""
    body = {
        "model": server.contender.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    first = last = 0.0
    tokens = 0
    began = time.perf_counter()
    with server.client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if any(choice["delta"].get("content") for choice in chunk["choices"]):
                last = time.perf_counter()
                first = first or last
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    if tokens < 2 or last == first:
        raise RuntimeError(f"{server.contender.name} wrote {tokens} tokens; too few to time")
    return Answer(first - began, (tokens - 1) / (last - first))
