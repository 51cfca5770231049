"""A client leaves while a real model computes its prompt: how long until its row is free.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ..tiny_model import Shape, build_tiny_model
from .load import load_server, percentile

SHAPE = Shape(layers=16, heads=8, kv_heads=2, head_dim=128)
_PIECE_TOKENS = 256
"""What an engine computes at once on a CPU."""
_LOOK_SECONDS = 0.01
_MOST_SECONDS = 120.0


@dataclass
class Leaves:
    seconds: list[float] = field(default_factory=list)
    """From each client's leaving until its row was free."""
    num_tokens: int = 0
    """Of each prompt."""
    piece_seconds: float = 0.0
    """Of a piece of a prompt, in the mean, of one that is computed to its end."""


def _body(model: str, num_tokens: int, chance: random.Random) -> dict[str, Any]:
    """Of a prompt that begins as no other does; a digit and a space are two tokens."""
    prompt = " ".join(str(chance.randrange(10)) for _ in range(num_tokens // 2))
    return {"model": model, "prompt": prompt, "max_tokens": 1}


async def _leave(port: int, body: bytes, wait_seconds: float) -> float | None:
    """Ask, leave so long after the first piece of the prompt, and wait until nothing runs; how long that took. None
    where the prompt was computed by then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    async with asyncio.timeout(_MOST_SECONDS), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = asyncio.create_task(reader.read(1))
        while not answer.done() and not await _num_running(client):
            await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.wait([answer], timeout=wait_seconds)
        left_at = time.monotonic()
        writer.transport.abort()
        if answer.done():
            return None
        while await _num_running(client):
            await asyncio.sleep(_LOOK_SECONDS)
        return time.monotonic() - left_at


async def _num_running(client: httpx.AsyncClient) -> int:
    return (await client.get("/health")).json()["num_running"]


def leave(times: int, num_tokens: int = 4000, shape: Shape = SHAPE, seed: int = 6) -> Leaves:
    """Let so many clients leave, one after the other, each within three pieces of its prompt's first."""
    chance, found = random.Random(seed), Leaves()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        model = build_tiny_model(home / "models" / "slow", shape=shape)
        with load_server(home, f"--model={model}") as (_, port, _):
            for _ in range(2):  # in the first one all is made ready
                started = time.monotonic()
                body = _body(model.name, num_tokens, chance)
                answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=_MOST_SECONDS)
                found.num_tokens = answer.raise_for_status().json()["usage"]["prompt_tokens"]
                found.piece_seconds = (time.monotonic() - started) * _PIECE_TOKENS / found.num_tokens
            for _ in range(times):
                body = json.dumps(_body(model.name, num_tokens, chance)).encode()
                seconds = asyncio.run(_leave(port, body, chance.uniform(0, 3 * found.piece_seconds)))
                found.seconds += [] if seconds is None else [seconds]
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--times", type=int, default=100)
    arguments.add_argument("--tokens", type=int, default=4000, help="of a prompt")
    wanted = arguments.parse_args()
    found = leave(wanted.times, wanted.tokens)
    p50, p99 = (1000 * percentile(found.seconds, share) for share in (0.5, 0.99))
    print(f"{len(found.seconds)} prompts of {found.num_tokens} tokens, pieces of {1000 * found.piece_seconds:.0f} ms: "
          f"until the row was free p50 {p50:.0f} ms, p99 {p99:.0f} ms")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
