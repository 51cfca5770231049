"""Mixed requests on the four dialects, streaming and not, of which a share is cut at a random moment.

    python -m tests.torture.load --requests 10000 --parallel 64

Every answer is known before it is asked for, so that a token lost, doubled or crossed shows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from .load_server import MODEL, answer_to

DIALECTS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions")


@dataclass
class Outcome:
    counts: Counter[str] = field(default_factory=Counter)
    cuts: dict[str, tuple[float, bool]] = field(default_factory=dict)
    """When each cut request was cut, and whether it streamed, by its word."""
    freed: dict[str, list[float]] = field(default_factory=lambda: {"a stream": [], "while it waits": []})
    """Seconds from the cut to the row's end, by what the client left."""
    freed_in_prefill: list[float] = field(default_factory=list)
    """Those of rows that were at their prompt, streaming or not."""
    memory: list[tuple[int, ...]] = field(default_factory=list)
    """Resident KiB of the server and of its engine, and open descriptors of both, from time to time."""
    held: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def wrong(self) -> int:
        return sum(self.counts[name] for name in ("wrong", "wrong before the cut", "errors", "engines lost")) + sum(
            self.held.values()
        )


def body_of(path: str, prompt: str, stream: bool) -> bytes:
    user = [{"role": "user", "content": prompt}]
    body: dict[str, Any] = {
        "/v1/chat/completions": {"messages": user},
        "/v1/messages": {"messages": user, "max_tokens": 4000},
        "/v1/responses": {"input": prompt, "store": False},
        "/v1/completions": {"prompt": prompt, "max_tokens": 4000},
    }[path]
    return json.dumps({**body, "model": MODEL, "stream": stream}).encode()


def text_of(path: str, stream: bool, body: bytes) -> str:
    """The text of an answer, or of what came of it."""
    if not stream:
        answer = json.loads(body)
        match path:
            case "/v1/messages":
                return answer["content"][0]["text"]
            case "/v1/responses":
                return answer["output"][0]["content"][0]["text"]
            case "/v1/completions":
                return answer["choices"][0]["text"]
            case _:
                return answer["choices"][0]["message"]["content"]
    lines = [line[6:] for line in body.decode(errors="ignore").split("\n")[:-1] if line.startswith("data: {")]
    return "".join(_piece(json.loads(line)) for line in lines)


def _piece(event: dict[str, Any]) -> str:
    if choices := event.get("choices"):
        return choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""
    if event.get("type") == "content_block_delta":
        return event["delta"].get("text", "")
    return event["delta"] if event.get("type") == "response.output_text.delta" else ""


def _body(raw: bytes, chunked: bool) -> bytes:
    if not chunked:
        return raw
    found = b""
    while (at := raw.find(b"\r\n")) >= 0:
        size = int(raw[:at] or b"0", 16)
        found += raw[at + 2 : at + 2 + size]
        raw = raw[at + 4 + size :]
    return found


class Load:
    """`filling` is the mean number of words in front of what is asked for."""

    def __init__(
        self, port: int, chance: random.Random, cut_share: float, outcome: Outcome, filling: float = 60.0
    ) -> None:
        self._port, self._chance, self._cut_share, self._outcome = port, chance, cut_share, outcome
        self._filling = filling

    async def one(self, number: int) -> None:
        chance, counts = self._chance, self._outcome.counts
        path, stream, cut = chance.choice(DIALECTS), chance.random() < 0.5, chance.random() < self._cut_share
        word = f"w{number}x"
        prompt = "filler " * int(chance.expovariate(1 / self._filling)) + f"say {word} times {chance.randrange(1, 12)}"
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            body = body_of(path, prompt[-12_000:], stream)
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if cut:
                await self._cut(reader, writer, word, path, stream, answer_to(prompt))
                return
            head, _, raw = (await reader.read()).partition(b"\r\n\r\n")
            status = int(head.split()[1]) if head else 0
            counts["answered"] += 1
            if status != 200:
                counts["errors"] += 1
            elif text_of(path, stream, _body(raw, b"chunked" in head)) != answer_to(prompt):
                counts["wrong"] += 1
        except OSError:
            counts["errors"] += 1
        finally:
            writer.close()

    async def _cut(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        word: str,
        path: str,
        stream: bool,
        answer: str,
    ) -> None:
        """Read for a random time, then leave, half of the times with a reset."""
        raw = b""
        try:
            async with asyncio.timeout(self._chance.expovariate(1 / 0.3)):
                while piece := await reader.read(65536):
                    raw += piece
        except TimeoutError:
            pass
        self._outcome.counts["cut"] += 1
        self._outcome.cuts[word] = (time.monotonic(), stream)
        if self._chance.random() < 0.5:
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        head, _, rest = raw.partition(b"\r\n\r\n")
        if stream and rest and not answer.startswith(text_of(path, True, _body(rest, b"chunked" in head))):
            self._outcome.counts["wrong before the cut"] += 1


def _use(pids: list[int]) -> tuple[int, ...]:
    page = os.sysconf("SC_PAGE_SIZE")
    pids = [pid for pid in pids if Path(f"/proc/{pid}").exists()]  # one that is gone is told as lost at the end
    resident = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page >> 10 for pid in pids]
    return *resident, sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def engines_of(pid: int) -> list[int]:
    """The server's engines; it has other children for a moment."""
    listed = subprocess.run(["ps", "-Aww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = (line.split(maxsplit=2) for line in listed.splitlines())
    return [int(child) for child, parent, *args in rows if int(parent) == pid and "engine" in "".join(args)]


async def started_engines(load: Load, pid: int, number: int) -> list[int]:
    """`engines_of` the server once it has been asked the `number`-th request, again where the client left too early."""
    async with asyncio.timeout(300):
        while not (engines := engines_of(pid)):
            await load.one(number)
    return engines


async def _drive(
    port: int, pid: int, requests: int, parallel: int, cut_share: float, seed: int, filling: float
) -> Outcome:
    outcome, chance = Outcome(), random.Random(seed)
    load, numbers = Load(port, chance, cut_share, outcome, filling), iter(range(requests))
    engines = await started_engines(load, pid, requests)

    async def work() -> None:
        for number in numbers:
            if number % max(1, requests // 20) == 0 and sys.platform == "linux":
                outcome.memory.append(_use([pid, *engines]))
            await load.one(number)

    await asyncio.gather(*(work() for _ in range(parallel)))
    async with asyncio.timeout(300):
        while await _running(port):
            await asyncio.sleep(0.05)
    outcome.counts["engines lost"] = len(set(engines) - set(engines_of(pid)))
    return outcome


async def _running(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    health = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    writer.close()
    return health["num_running"] + health["num_waiting"]


@contextlib.contextmanager
def load_server(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int, dict[str, int]]]:
    """A `load_server` with its port; the mapping holds, when it has ended, what it still held."""
    held: dict[str, int] = {}
    argv = [sys.executable, "-m", "tests.torture.load_server", str(home), *options]
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log) as server,
    ):
        assert server.stdout is not None
        try:
            yield server, int(server.stdout.readline()), held
        finally:
            server.send_signal(signal.SIGTERM)
        held |= json.loads(server.stdout.readline() or "{}")


def load(requests: int, parallel: int = 64, cut_share: float = 0.2, seed: int = 1, filling: float = 60.0) -> Outcome:
    """Start a server, load it, end it; what happened."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        with load_server(home) as (server, port, held):
            started = time.monotonic()
            outcome = asyncio.run(_drive(port, server.pid, requests, parallel, cut_share, seed, filling))
            outcome.seconds = time.monotonic() - started
        outcome.held = held
        for line in (home / "freed").read_text().splitlines():
            word, at, phase = line.split()
            if word in outcome.cuts and float(at) > outcome.cuts[word][0]:
                cut_at, stream = outcome.cuts[word]
                outcome.freed["a stream" if stream else "while it waits"].append(float(at) - cut_at)
                if phase == "prefill":
                    outcome.freed_in_prefill.append(float(at) - cut_at)
        return outcome


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=10_000)
    arguments.add_argument("--parallel", type=int, default=64)
    arguments.add_argument("--cut", type=float, default=0.2, help="the share of requests that are cut")
    arguments.add_argument("--filling", type=float, default=60, help="words in front of a question, in the mean")
    wanted = arguments.parse_args()
    outcome = load(wanted.requests, wanted.parallel, wanted.cut, filling=wanted.filling)
    print(f"{outcome.seconds:.0f} s, {dict(outcome.counts)}, held {outcome.held}")
    for left, values in [*outcome.freed.items(), ("at its prompt", outcome.freed_in_prefill)]:
        print(f"cut to freed, {left}: {len(values)} rows, p50 {1000 * percentile(values, 0.5):.0f} ms, "
              f"p99 {1000 * percentile(values, 0.99):.0f} ms")  # fmt: skip
    print("memory KiB and descriptors:", outcome.memory)
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
