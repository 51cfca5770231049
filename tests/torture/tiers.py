"""A real model under load whose prefixes lie in memory and on disk, and whose engine is killed now and then.

    python -m tests.torture.tiers --kills 6

Memory has room for a few of the prefixes that the prompts share; the others come from the disk, after a kill all of
them. What each prompt is to be answered is asked first of a server that keeps no prefixes, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ..tiny_model import build_tiny_model
from .answers import DIALECTS, error_of, text_of
from .load import body_of, engines_of, load_server, own_bytes
from .load_server import MODEL

_ENDS = 6
"""Of each prefix: as many prompts share it."""
_ANSWER_TOKENS = 6
_PREFIX_BYTES = 1 << 20
_RECOVERY_SECONDS = 20.0
_CUT_SHARE = 0.2
_CUT_SECONDS = 0.1
"""In the mean, until a client leaves."""
_FIGURE = {
    "ram": r'^omlx:prefix_cache_tier_hits_total\{.*tier="ram".*\} (\S+)$',
    "disk": r'^omlx:prefix_cache_tier_hits_total\{.*tier="disk".*\} (\S+)$',
    "damaged": r"^omlx:prefix_cache_damaged_blocks\{.*\} (\S+)$",
}
Question = tuple[str, str]
"""A path and a prompt."""


@dataclass
class Tiers:
    counts: Counter[str] = field(default_factory=Counter)
    """Requests by what came of them, kills, and what should not be: see `num_lost` and `num_wrong`."""
    figures: dict[str, int] = field(default_factory=dict)
    """Prompt tokens found in memory ("ram") and on disk, and damaged blocks, at the end."""
    own_bytes: list[int] = field(default_factory=list)
    """Of the last engine, when the kills were over and at the end."""
    held: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def num_lost(self) -> int:
        return self.counts["errors"] + self.counts["engines lost"]

    @property
    def num_wrong(self) -> int:
        return self.counts["wrong"] + self.counts["nothing on disk"] + self.figures["damaged"] + sum(self.held.values())


class _Load:
    def __init__(self, client: httpx.AsyncClient, server: int, answers: dict[Question, str], seed: int) -> None:
        self._client, self._server = client, server
        self._answers = list(answers.items())
        self._chance = random.Random(seed)
        self._killed_at = -_RECOVERY_SECONDS
        self._is_over = False
        self.found = Tiers()

    async def run(self, num_kills: int, pause: float, rest: float, parallel: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(parallel):
                tasks.create_task(self._work())
            for _ in range(num_kills):
                await asyncio.sleep(pause)
                await self._kill()
            [engine] = engines_of(self._server)
            self.found.own_bytes.append(own_bytes(engine))
            await asyncio.sleep(rest)
            self._is_over = True
        async with asyncio.timeout(60):
            while (health := (await self._client.get("/health")).json())["num_running"] or health["num_waiting"]:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)  # the engine looks over its books when it is idle, and ends where they are wrong
        self.found.counts["engines lost"] = engine not in engines_of(self._server)
        if not self.found.counts["engines lost"]:
            self.found.own_bytes.append(own_bytes(engine))
        self.found.figures = {name: await self._figure(name) for name in _FIGURE}

    async def _work(self) -> None:
        chance, counts = self._chance, self.found.counts
        while not self._is_over:
            (path, prompt), expected = chance.choice(self._answers)
            stream, leaves = chance.random() < 0.5, chance.random() < _CUT_SHARE
            try:
                async with asyncio.timeout(chance.expovariate(1 / _CUT_SECONDS) if leaves else None):
                    text = await self._ask(path, prompt, stream)
            except TimeoutError:
                counts["cut"] += 1
                continue
            counts["answered"] += 1
            if text is None:
                counts["errors"] += 1
            elif text != expected:
                counts["wrong"] += 1

    async def _ask(self, path: str, prompt: str, stream: bool) -> str | None:
        """The answer's text, which is asked for again where the engine was killed; None where there was no such reason
        for an error, or a connection ended without one."""
        while True:
            try:
                answer = await self._client.post(path, content=body(path, prompt, stream))
            except httpx.TransportError:
                return None
            if answer.status_code == 200 and not (stream and error_of(path, answer.content)):
                return text_of(path, stream, answer.content)
            if time.monotonic() - self._killed_at > _RECOVERY_SECONDS:
                return None
            self.found.counts["asked again"] += 1
            await asyncio.sleep(0.1)

    async def _kill(self) -> None:
        """Kill the engine, and wait until the next one has found something on the disk."""
        async with asyncio.timeout(_RECOVERY_SECONDS):
            while not (engines := engines_of(self._server)):
                await asyncio.sleep(0.02)
        [killed] = engines
        os.kill(killed, signal.SIGKILL)
        self._killed_at = time.monotonic()
        self.found.counts["kills"] += 1
        try:
            async with asyncio.timeout(_RECOVERY_SECONDS):
                while engines_of(self._server) in ([], [killed]):
                    await asyncio.sleep(0.02)
                before = await self._figure("disk")
                while await self._figure("disk") == before:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            self.found.counts["nothing on disk"] += 1

    async def _figure(self, name: str) -> int:
        values = re.findall(_FIGURE[name], (await self._client.get("/metrics")).text, re.MULTILINE)
        return int(sum(map(float, values)))


def body(path: str, prompt: str, stream: bool) -> bytes:
    limit = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    return body_of(path, prompt, stream, **{limit: _ANSWER_TOKENS, "temperature": 0})


def questions(num_prefixes: int, seed: int) -> list[Question]:
    """Prefixes of 400 to 1,400 tokens, each with several ends, each end for every path."""
    chance = random.Random(seed)
    digits = [" ".join(chance.choices("0123456789", k=chance.randrange(200, 700))) for _ in range(num_prefixes)]
    prompts = [f"{prefix}, and {chance.randrange(10_000)}?" for prefix in digits for _ in range(_ENDS)]
    return [(path, prompt) for prompt in prompts for path in DIALECTS]


async def _attack(port: int, server: int, answers: dict[Question, str], schedule: tuple[int, float, float]) -> Tiers:
    async with _client(port) as client:
        load = _Load(client, server, answers, seed=7)
        started = time.monotonic()
        await load.run(*schedule, parallel=8)
        load.found.seconds = time.monotonic() - started
        return load.found


def _client(port: int) -> httpx.AsyncClient:
    headers = {"content-type": "application/json"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120, headers=headers)


async def answers_to(asked: list[Question], port: int) -> dict[Question, str]:
    answers: dict[Question, str] = {}
    async with _client(port) as client:
        for path, prompt in asked:
            answer = (await client.post(path, content=body(path, prompt, False))).raise_for_status()
            answers[path, prompt] = text_of(path, False, answer.content)
    return answers


def tiers(num_kills: int, pause: float, rest: float, num_prefixes: int = 12) -> Tiers:
    """So many kills, `pause` seconds after the start and after each recovery, and `rest` seconds after the last."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        option = f"--model={build_tiny_model(home / 'models' / MODEL)}"
        with load_server(home, option, "--prefix-bytes=0") as (_, port, _):
            answers = asyncio.run(answers_to(questions(num_prefixes, seed=6), port))
        with load_server(home, option, f"--prefix-bytes={_PREFIX_BYTES}") as (server, port, held):
            found = asyncio.run(_attack(port, server.pid, answers, (num_kills, pause, rest)))
        found.held = held
        if found.num_lost or found.num_wrong:
            print((home / "log").read_text()[-3000:], file=sys.stderr)
        return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=6)
    arguments.add_argument("--pause", type=float, default=62.0, help="seconds; a death within a minute is a fast one")
    arguments.add_argument("--rest", type=float, default=180.0, help="seconds, after the last kill")
    wanted = arguments.parse_args()
    found = tiers(wanted.kills, wanted.pause, wanted.rest)
    print(f"{found.seconds:.0f} s, {dict(found.counts)}, {found.figures}, held {found.held}")
    print("MB of the last engine's own:", [size / 1e6 for size in found.own_bytes])
    return 1 if found.num_lost or found.num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
