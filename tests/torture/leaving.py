"""A client leaves while a real model computes a prompt, its own or another's: how long until its row is free.

    python -m tests.torture.leaving --times 100

The model's pieces of a prompt take about as long as a large model's do on a GPU. When its row is free the engine says,
and the server's health is asked for that every hundredth of a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ..tiny_model import Shape, build_tiny_model
from .load import count_end, engines_of, load_server, num_dead, percentile, post, rest

SHAPE = Shape(layers=16, heads=8, kv_heads=2, head_dim=128)
MOST_SECONDS = {
    "while its prompt is computed": 0.25,
    "its stream, while another's prompt is computed": 0.1,
    "half its prompt, while a shorter one is computed": 0.25,
}
"""Until its row is free, for 99 of a hundred, by what a client leaves."""
_PIECE_TOKENS = 256
"""What an engine computes at once on a CPU."""
_STREAM_TOKENS = 20
"""Of the prompt of one that is to be answered soon."""
_LOOK_SECONDS = 0.01
_MOST_SECONDS = 120.0


@dataclass
class Leaves:
    seconds: dict[str, list[float]] = field(default_factory=lambda: {what: [] for what in MOST_SECONDS})
    """From each client's leaving until its row was free, by what it left."""
    num_tokens: int = 0
    """Of each long prompt; a shorter one has half of them."""
    piece_seconds: float = 0.0
    """Of a piece of a prompt, in the mean, of one that is computed to its end."""
    counts: Counter[str] = field(default_factory=Counter)
    """Processes of the server that died ("deaths"), and what it "held at the end"."""


class _Client:
    """One request, on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.answer = asyncio.create_task(reader.read())

    @classmethod
    async def ask(cls, port: int, body: dict[str, Any]) -> _Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/completions", json.dumps(body).encode()))
        return cls(reader, writer)

    def leave(self) -> None:
        self._writer.transport.abort()


def _body(model: str, num_tokens: int, chance: random.Random, stream: bool = False) -> dict[str, Any]:
    """Of a prompt that begins as no other does; a digit and a space are two tokens."""
    prompt = " ".join(str(chance.randrange(10)) for _ in range(num_tokens // 2))
    return {"model": model, "prompt": prompt, "max_tokens": 4000 if stream else 1, "stream": stream}


async def _leave(port: int, bodies: list[dict[str, Any]], wait_seconds: float) -> float | None:
    """Ask for each once the one before has its row. The first client leaves so long after the last has its own; how
    long until its row is free. None where one had its answer by then."""
    clients: list[_Client] = []
    async with asyncio.timeout(_MOST_SECONDS), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as health:

        async def num_running() -> int:
            return (await health.get("/health")).json()["num_running"]

        def are_waiting() -> bool:
            return not any(client.answer.done() for client in clients)

        for body in bodies:
            clients.append(await _Client.ask(port, body))
            while are_waiting() and await num_running() < len(clients):
                await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.wait([client.answer for client in clients], timeout=wait_seconds, return_when="FIRST_COMPLETED")
        is_early = are_waiting()
        left_at, first = time.monotonic(), clients.pop(0)
        first.leave()
        while await num_running() > len(clients):
            await asyncio.sleep(_LOOK_SECONDS)
        seconds = time.monotonic() - left_at
        is_early = is_early and are_waiting()
        for client in clients:
            client.leave()
        while await num_running():
            await asyncio.sleep(_LOOK_SECONDS)
        return seconds if is_early else None


def leave(times: int, num_tokens: int = 2000, shape: Shape = SHAPE, seed: int = 6) -> Leaves:
    """Let so many clients leave of each kind, one after the other, each within about a piece's time of the
    last one's first piece."""
    chance, found = random.Random(seed), Leaves()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        model = build_tiny_model(home / "models" / "slow", shape=shape)

        def bodies(what: str) -> list[dict[str, Any]]:
            own = _body(model.name, num_tokens, chance)
            if what == "while its prompt is computed":
                return [own]
            if what == "half its prompt, while a shorter one is computed":
                return [own, _body(model.name, num_tokens // 2, chance)]
            return [_body(model.name, _STREAM_TOKENS, chance, stream=True), own]

        with load_server(home, f"--model={model}") as (server, port, held):
            for _ in range(2):  # in the first one all is made ready
                started = time.monotonic()
                body = _body(model.name, num_tokens, chance)
                answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=_MOST_SECONDS)
                found.num_tokens = answer.raise_for_status().json()["usage"]["prompt_tokens"]
                found.piece_seconds = (time.monotonic() - started) * _PIECE_TOKENS / found.num_tokens
            engines = engines_of(server.pid)
            for what, values in found.seconds.items():
                for _ in range(times):
                    wait_seconds = chance.uniform(0, found.piece_seconds)
                    seconds = asyncio.run(_leave(port, bodies(what), wait_seconds))
                    values += [] if seconds is None else [seconds]
            asyncio.run(rest(port))
            found.counts["deaths"] = num_dead(server, engines)
        count_end(found.counts, held, home / "log")
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--times", type=int, default=100)
    arguments.add_argument("--tokens", type=int, default=2000, help="of a prompt")
    wanted = arguments.parse_args()
    found = leave(wanted.times, wanted.tokens)
    print(f"prompts of {found.num_tokens} tokens, pieces of {1000 * found.piece_seconds:.0f} ms")
    for what, values in found.seconds.items():
        p50, p99 = (1000 * percentile(values, share) for share in (0.5, 0.99))
        print(f"{len(values)} clients left {what}: until the row was free p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(dict(found.counts))
    return 1 if found.counts.total() else 0


if __name__ == "__main__":
    sys.exit(main())
