"""Requests that are too large for the server, under a limit of memory for each of its processes.

    python -m tests.torture.oversize --requests 100 --gib 3 --window 1000000

Each must be refused in words that agents act on, or answered; no process may end, and a small request in between is
answered as ever.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx

from .answers import DIALECTS, outcome_of
from .load import body_of, count_end, engines_of, load_server, num_dead, rest
from .load_server import answer_to

_QUESTION = "say a times 3"
_BODY_BYTES = 64 << 20
_FILLINGS = {
    "words": "some words, ",
    "one word": "a",
    "spaces": " ",
    "lines": "\n",
    "emoji": "\U0001f600\U0001f680",
    "escapes": '"\\',
    "control tokens": "<|im_start|>",
}
_FINE = {"list": {"too many", "too large", "busy"}, "text": {"too long", "too large", "busy", "answered"}}
_PARTS = ({"type": "t"}, {"type": "text", "text": "a"}, [], 1)


async def attack(port: int, requests: int, window: int, parallel: int = 4, seed: int = 1) -> Counter[str]:
    """What came of them, by outcome; see `faults`."""
    chance, counts, numbers = random.Random(seed), Counter[str](), iter(range(requests))

    async def work(client: httpx.AsyncClient) -> None:
        for number in numbers:
            path, filling = chance.choice(DIALECTS), chance.choice(list(_FILLINGS.values()))
            stream = chance.random() < 0.5
            size = chance.choice([window + window // 10, 4 * window, 20_000_000, 40_000_000, _BODY_BYTES + 1])
            prompt = filling * (min(size, _BODY_BYTES // 2) // len(json.dumps(filling)[1:-1]) + 1) + f" {_QUESTION}"
            if size > _BODY_BYTES:
                prompt *= 3
            body = body_of(path, prompt, stream)
            kind = "list" if number % 3 == 2 else "text"
            if kind == "list":
                many = parts(chance.choice(_PARTS), max(size, 20_000_000))
                body, stream = body_of(path, "?", False).replace(b'"?"', many), False
            counts[judged(kind, await ask(client, path, stream, body, answer_to(_QUESTION)))] += 1
            counts[await _small(client, f"say w{number}x times 5")] += 1

    headers = {"content-type": "application/json", "connection": "close"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300, headers=headers) as client:
        await asyncio.gather(*(work(client) for _ in range(parallel)))
    return counts


def judged(kind: str, outcome: str) -> str:
    """The outcome, which tells of what it is where none of a "list", or a "text", should come to it."""
    return outcome if outcome in _FINE[kind] else f"a {kind}: {outcome}"


def parts(part: object, size: int) -> bytes:
    """A list of `size` bytes that holds as many of them as it can."""
    text = json.dumps(part).encode()
    return b"[" + b",".join([text] * (size // (len(text) + 1))) + b"]"


async def ask(client: httpx.AsyncClient, path: str, stream: bool, body: bytes, text: str = "") -> str:
    """`outcome_of` the answer to it."""
    try:
        return outcome_of(path, stream, await client.post(path, content=body), text)
    except httpx.TransportError as error:
        return f"no answer: {type(error).__name__}"


async def _small(client: httpx.AsyncClient, prompt: str) -> str:
    path = "/v1/messages"
    return f"small {await ask(client, path, False, body_of(path, prompt, False), answer_to(prompt))}"


def oversize(requests: int, window: int, address_space: int, *, model: Path | None = None) -> Counter[str]:
    """`attack` on a server with so many bytes of address space for each process, with its deaths counted."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        options = [f"--window={window}", f"--address-space={address_space}", *([f"--model={model}"] if model else [])]
        with load_server(home, *options) as (server, port, held):
            ready = body_of("/v1/messages", "say a times 1", False)
            httpx.post(f"http://127.0.0.1:{port}/v1/messages", content=ready, timeout=60,
                       headers={"content-type": "application/json"}).raise_for_status()  # fmt: skip
            engines = engines_of(server.pid)
            counts = asyncio.run(attack(port, requests, window))
            with contextlib.suppress(OSError):  # a server that has died is counted
                asyncio.run(rest(port))
            counts["deaths"] = num_dead(server, engines)
        count_end(counts, held, home / "log")
        return counts


def faults(counts: Counter[str]) -> int:
    return counts.total() - sum(counts[fine] for fine in {"small answered"}.union(*_FINE.values()))


def num_asked(counts: Counter[str]) -> int:
    """The large requests, without the small ones in between."""
    small = sum(count for outcome, count in counts.items() if outcome.startswith("small "))
    return counts.total() - small - counts["deaths"] - counts["held at the end"]


def is_mostly_busy(counts: Counter[str]) -> bool:
    """Whether of many requests more were sent away than judged: a server that never gives back what it has counted."""
    return 2 * counts["busy"] > num_asked(counts)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=100)
    arguments.add_argument("--gib", type=float, default=3.0, help="of address space, for each process")
    arguments.add_argument("--window", type=int, default=1_000_000, help="of the model, in tokens")
    wanted = arguments.parse_args()
    counts = oversize(wanted.requests, wanted.window, int(wanted.gib * (1 << 30)))
    print(dict(counts))
    return 1 if faults(counts) or is_mostly_busy(counts) else 0


if __name__ == "__main__":
    sys.exit(main())
