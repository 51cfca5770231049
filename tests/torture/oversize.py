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
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

import httpx

from .answers import DIALECTS, text_of
from .load import body_of, engines_of, load_server, num_failures, rest
from .load_server import answer_to

_TOO_MANY = re.compile(r"more than \d+ (?:objects|values)")
_TOO_LONG = re.compile(r"prompt is too long: \d+ tokens > \d+ maximum")
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
_PARTS = ({"type": "t"}, {"type": "text", "text": "a"}, [], 1)


async def attack(port: int, requests: int, window: int, parallel: int = 4, seed: int = 1) -> Counter[str]:
    """What came of them, by outcome; see `faults`."""
    chance, counts, numbers = random.Random(seed), Counter[str](), iter(range(requests))

    async def work(client: httpx.AsyncClient) -> None:
        for number in numbers:
            path, filling = chance.choice(DIALECTS), chance.choice(list(_FILLINGS.values()))
            size = chance.choice([window + window // 10, 4 * window, 20_000_000, 40_000_000, _BODY_BYTES + 1])
            prompt = filling * (min(size, _BODY_BYTES // 2) // len(json.dumps(filling)[1:-1]) + 1) + " say a times 3"
            if size > _BODY_BYTES:
                prompt *= 3
            body = body_of(path, prompt, chance.random() < 0.5)
            if number % 3 == 2:
                many = parts(chance.choice(_PARTS), max(size, 20_000_000))
                body = body_of(path, "?", False).replace(b'"?"', many)
            counts[await outcome_of(client.post(path, content=body))] += 1
            counts[await _small(client, f"say w{number}x times 5")] += 1

    headers = {"content-type": "application/json", "connection": "close"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300, headers=headers) as client:
        await asyncio.gather(*(work(client) for _ in range(parallel)))
    return counts


def parts(part: object, size: int) -> bytes:
    """A list of `size` bytes that holds as many of them as it can."""
    text = json.dumps(part).encode()
    return b"[" + b",".join([text] * (size // (len(text) + 1))) + b"]"


async def outcome_of(posting: Awaitable[httpx.Response]) -> str:
    """What came of a request, in a word where it is what should come of one."""
    try:
        answer = await posting
    except httpx.TransportError as error:
        return f"no answer: {type(error).__name__}"
    match answer.status_code:
        case 200:
            return "answered"
        case 400 if _TOO_LONG.search(answer.text):
            return "too long"
        case 400 if _TOO_MANY.search(answer.text):
            return "too many"
        case 413:
            return "too large"
        case 503 if "retry-after" in answer.headers:
            return "busy"
        case status:
            return f"{status}: {answer.text[:120]}"


async def _small(client: httpx.AsyncClient, prompt: str) -> str:
    try:
        answer = await client.post("/v1/messages", content=body_of("/v1/messages", prompt, False))
    except httpx.TransportError as error:
        return f"small: no answer: {type(error).__name__}"
    is_right = answer.status_code == 200 and text_of("/v1/messages", False, answer.content) == answer_to(prompt)
    return "small answered" if is_right else f"small: {answer.status_code}: {answer.text[:120]}"


def oversize(requests: int, window: int, address_space: int, *, model: Path | None = None) -> Counter[str]:
    """`attack` on a server with so many bytes of address space for each process, with its deaths counted."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        options = [f"--window={window}", f"--address-space={address_space}", *([f"--model={model}"] if model else [])]
        with load_server(home, *options) as (server, port, _):
            ready = body_of("/v1/messages", "say a times 1", False)
            httpx.post(f"http://127.0.0.1:{port}/v1/messages", content=ready, timeout=60,
                       headers={"content-type": "application/json"}).raise_for_status()  # fmt: skip
            engines = engines_of(server.pid)
            counts = asyncio.run(attack(port, requests, window))
            with contextlib.suppress(OSError):  # a server that has died is counted
                asyncio.run(rest(port))
            counts["deaths"] = len(set(engines) - set(engines_of(server.pid))) + (server.poll() is not None)
        counts["deaths"] = max(counts["deaths"], num_failures(home / "log"))
        if counts["deaths"]:
            print((home / "log").read_text()[-3000:], file=sys.stderr)
        return counts


def faults(counts: Counter[str]) -> int:
    return counts.total() - sum(
        counts[fine] for fine in ("too long", "too many", "too large", "busy", "answered", "small answered")
    )


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=100)
    arguments.add_argument("--gib", type=float, default=3.0, help="of address space, for each process")
    arguments.add_argument("--window", type=int, default=1_000_000, help="of the model, in tokens")
    wanted = arguments.parse_args()
    counts = oversize(wanted.requests, wanted.window, int(wanted.gib * (1 << 30)))
    print(dict(counts))
    return 1 if faults(counts) else 0


if __name__ == "__main__":
    sys.exit(main())
