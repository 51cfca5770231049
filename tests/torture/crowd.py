"""Prompts that fit one by one and not together, on a real model, under a limit of memory for each process.

    python -m tests.torture.crowd --requests 30 --gib 2.5

The engine must take turns, or refuse in words that agents act on, and never end.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx

from ..tiny_model import Shape, build_tiny_model
from .load import engines_of, load_server
from .oversize import outcome_of

SHAPE = Shape(layers=32, heads=32, kv_heads=32)
"""128 KiB of keys and values a token, and little to compute."""


async def _attack(port: int, requests: int, model: str, parallel: int, seed: int) -> Counter[str]:
    chance, counts, numbers = random.Random(seed), Counter[str](), iter(range(requests))

    async def work(client: httpx.AsyncClient) -> None:
        for _ in numbers:
            num_words = chance.choice([150, 300, 600])
            prompt = " ".join(str(chance.randrange(10)) for _ in range(num_words))
            body = {"model": model, "prompt": prompt, "max_tokens": 4, "stream": chance.random() < 0.5}
            counts[await outcome_of(client.post("/v1/completions", json=body))] += 1

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
        await asyncio.gather(*(work(client) for _ in range(parallel)))
    return counts


def crowd(requests: int, address_space: int, parallel: int = 12, seed: int = 5) -> Counter[str]:
    """What came of the requests, by outcome, with the deaths among the server's processes."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        model = build_tiny_model(home / "models" / "wide", shape=SHAPE)
        with load_server(home, f"--model={model}", f"--address-space={address_space}") as (server, port, _):
            first = {"model": model.name, "prompt": "1", "max_tokens": 1}
            httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=first, timeout=120).raise_for_status()
            engines = engines_of(server.pid)
            counts = asyncio.run(_attack(port, requests, model.name, parallel, seed))
            counts["deaths"] = len(set(engines) - set(engines_of(server.pid))) + (server.poll() is not None)
        if counts["deaths"]:
            print((home / "log").read_text()[-3000:], file=sys.stderr)
        return counts


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=30)
    arguments.add_argument("--gib", type=float, default=2.5, help="of address space, for each process")
    wanted = arguments.parse_args()
    counts = crowd(wanted.requests, int(wanted.gib * (1 << 30)))
    print(dict(counts))
    return 1 if counts.total() - sum(counts[fine] for fine in ("answered", "too long", "busy")) else 0


if __name__ == "__main__":
    sys.exit(main())
