"""Prompts that fit one by one and not together, on a real model, under a limit of memory for each process.

    python -m tests.torture.crowd --requests 100 --gib 4

The engine must take turns, or refuse in words that agents act on, and never end.
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
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ..tiny_model import Shape, build_tiny_model
from .load import count_end, engines_of, load_server, num_dead, peaks, rest
from .oversize import ask

SHAPE = Shape(layers=8, heads=8, kv_heads=8, head_dim=512)
"""256 KiB of keys and values a token: what attention costs grows with the tokens, not with what they weigh."""
_EVICTED = re.compile(r"^omlx:prefix_cache_evictions_total\{.*\} (\S+)$", re.MULTILINE)


@dataclass
class Crowd:
    counts: Counter[str] = field(default_factory=Counter)
    """What came of the requests, by outcome, with the deaths among the server's processes."""
    most_waiting: int = 0
    """Of requests, while another ran."""
    num_evicted: int = 0
    """Blocks of prefixes that had to go."""
    peaks: tuple[int, int] = (0, 0)
    """The most bytes of address space that one of the processes had, and the most in memory."""

    @property
    def num_asked(self) -> int:
        return self.counts.total() - self.counts["deaths"] - self.counts["held at the end"]

    @property
    def faults(self) -> int:
        return self.counts.total() - sum(self.counts[fine] for fine in ("answered", "too long", "busy"))

    @property
    def is_mostly_refused(self) -> bool:
        """Each of many prompts fits alone, so that most of them have their turn."""
        return 2 * self.counts["answered"] < self.num_asked


async def _attack(port: int, requests: int, model: str, parallel: int, seed: int) -> Crowd:
    chance, found, numbers = random.Random(seed), Crowd(), iter(range(requests))

    async def work(client: httpx.AsyncClient) -> None:
        for _ in numbers:
            num_words = chance.choice([300, 600, 1000])
            prompt = " ".join(str(chance.randrange(10)) for _ in range(num_words))
            max_tokens = chance.choice([4, 100])  # the long ones stay, and the others must find room beside them
            stream = chance.random() < 0.5
            body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "stream": stream}
            found.counts[await ask(client, "/v1/completions", stream, json.dumps(body).encode())] += 1

    async def watch(client: httpx.AsyncClient) -> None:
        while True:
            health = (await client.get("/health")).json()
            if health["num_running"]:
                found.most_waiting = max(found.most_waiting, health["num_waiting"])
            await asyncio.sleep(0.5)

    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=3600, headers=headers) as client:
        watching = asyncio.create_task(watch(client))
        await asyncio.gather(*(work(client) for _ in range(parallel)))
        watching.cancel()
        with contextlib.suppress(httpx.TransportError, OSError):  # a server that has died is told by `crowd`
            await rest(port)
            evicted = _EVICTED.findall((await client.get("/metrics")).text)
            found.num_evicted = int(float(evicted[0])) if evicted else 0
    return found


def crowd(requests: int, address_space: int, parallel: int = 12, seed: int = 5) -> Crowd:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        model = build_tiny_model(home / "models" / "wide", shape=SHAPE)
        with load_server(home, f"--model={model}", f"--address-space={address_space}") as (server, port, held):
            first = {"model": model.name, "prompt": "1", "max_tokens": 1}
            httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=first, timeout=120).raise_for_status()
            engines = engines_of(server.pid)
            found = asyncio.run(_attack(port, requests, model.name, parallel, seed))
            found.peaks = peaks([server.pid, *engines])
            found.counts["deaths"] = num_dead(server, engines)
        count_end(found.counts, held, home / "log")
        return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=100)
    arguments.add_argument("--gib", type=float, default=4.0, help="of address space, for each process")
    wanted = arguments.parse_args()
    found = crowd(wanted.requests, int(wanted.gib * (1 << 30)))
    counts = found.counts
    space, resident = (size / (1 << 30) for size in found.peaks)
    print(f"{dict(counts)}, at most {found.most_waiting} waiting, {found.num_evicted} blocks evicted")
    print(f"at most {space:.2f} GiB of address space, {resident:.2f} in memory")
    return 1 if found.faults or found.is_mostly_refused else 0


if __name__ == "__main__":
    sys.exit(main())
