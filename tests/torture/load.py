"""Mixed requests on the four dialects, streaming and not, of which a share is cut at a random moment.

    python -m tests.torture.load --requests 10000 --parallel 64

Every answer is known before it is asked for, so that a token lost, doubled or crossed shows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, NamedTuple, TypeAlias

from .answers import DIALECTS, fault_of, is_whole
from .load_server import MODEL, answer_to

_RESTS = 4
"""Times that the load pauses, the last at its end, to see what the server has when no request runs."""
_QUIET_SECONDS = 0.5
"""An engine looks into its books when nothing has come for a tenth of a second."""
MOST_BYTES_A_REQUEST = 512
"""Of growth: less than anything that a request would leave, and more than malloc's peaks came to."""


@dataclass
class Outcome:
    counts: Counter[str] = field(default_factory=Counter)
    cuts: dict[str, tuple[float, bool]] = field(default_factory=dict)
    """When each request was cut that was, and whether it streamed, by its word."""
    freed: dict[str, list[float]] = field(default_factory=lambda: {"a stream": [], "while it waits": []})
    """Seconds from the cut to the row's end, by what the client left."""
    freed_in_prefill: list[float] = field(default_factory=list)
    """Those of rows that were at their prompt, streaming or not."""
    at_rest: list[tuple[int, int]] = field(default_factory=list)
    """Bytes that the server and its engine had of their own, and their open descriptors, at each rest; on Linux."""
    held: dict[str, int] = field(default_factory=dict)
    """See `last_words`."""
    seconds: float = 0.0

    @property
    def growth(self) -> tuple[int, int]:
        """Of bytes and of descriptors, from the middle of the load to its end."""
        if not self.at_rest:
            return 0, 0
        (bytes_then, descriptors_then), (num_bytes, descriptors) = self.at_rest[_RESTS // 2 - 1], self.at_rest[-1]
        return num_bytes - bytes_then, descriptors - descriptors_then

    @property
    def num_lost(self) -> int:
        return self.counts["errors"] + self.counts["engines lost"]

    @property
    def wrong(self) -> int:
        """All that is, with what was lost."""
        return sum(self.counts[name] for name in ("wrong", "wrong before the cut", "errors", "engines lost")) + sum(
            self.held.values()
        )


def body_of(path: str, prompt: str, stream: bool, **more: object) -> bytes:
    user = [{"role": "user", "content": prompt}]
    body: dict[str, Any] = {
        "/v1/chat/completions": {"messages": user},
        "/v1/messages": {"messages": user, "max_tokens": 4000},
        "/v1/responses": {"input": prompt, "store": False},
        "/v1/completions": {"prompt": prompt, "max_tokens": 4000},
    }[path]
    return json.dumps({**body, "model": MODEL, "stream": stream, **more}).encode()


def post(path: str, body: bytes) -> bytes:
    """The HTTP request, whose answer ends its connection."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Question(NamedTuple):
    name: str
    path: str
    stream: bool
    body: bytes
    answer: str


Ask: TypeAlias = Callable[[random.Random, int], Question]
"""The n-th question."""


def scripted_question(chance: random.Random, number: int, filling: float = 60.0) -> Question:
    """To the engine that plays a script. `filling` is the mean number of words in front of what is asked for."""
    path, stream, word = chance.choice(DIALECTS), chance.random() < 0.5, f"w{number}x"
    prompt = "filler " * int(chance.expovariate(1 / filling)) + f"say {word} times {chance.randrange(1, 12)}"
    return Question(word, path, stream, body_of(path, prompt[-12_000:], stream), answer_to(prompt))


class Load:
    """`patience` is the mean of the seconds after which who wants no answer leaves."""

    def __init__(
        self,
        port: int,
        chance: random.Random,
        cut_share: float,
        outcome: Outcome,
        ask: Ask = scripted_question,
        patience: float = 0.3,
    ) -> None:
        self._port, self._chance, self._cut_share, self._outcome = port, chance, cut_share, outcome
        self._ask, self._patience = ask, patience

    async def one(self, number: int) -> None:
        """Ask, and judge what comes; one that is cut is left half of the times with a reset."""
        chance, counts = self._chance, self._outcome.counts
        name, path, stream, body, answer = self._ask(chance, number)
        leaves = chance.random() < self._cut_share
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(post(path, body))
            raw, has_ended = await _read(reader, chance.expovariate(1 / self._patience) if leaves else None)
            counts["answered" if has_ended else "cut"] += 1
            if not has_ended:
                self._outcome.cuts[name] = (time.monotonic(), stream)
                if chance.random() < 0.5:
                    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            is_broken_off = has_ended and not is_whole(raw)
            if fault := "errors" if is_broken_off else fault_of(path, stream, raw, answer):
                counts[fault] += 1
        except OSError:
            counts["errors"] += 1
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader, seconds: float | None) -> tuple[bytes, bool]:
    """What comes of an answer within that time, and whether that is all there will be."""
    raw = b""
    try:
        async with asyncio.timeout(seconds):
            while piece := await reader.read(65536):
                raw += piece
    except TimeoutError:
        return raw, is_whole(raw)
    return raw, True


def own_bytes(pid: int) -> int:
    """What the process has in memory and shares with no file."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def peaks(pids: list[int]) -> tuple[int, int]:
    """The most address space that one of the processes has had, and the most that one had in memory, in bytes; 0 where
    there is no Linux to tell."""
    found = [(0, 0)]
    for status in (Path(f"/proc/{pid}/status") for pid in pids):
        if status.exists():
            sizes = dict(line.split(":", 1) for line in status.read_text().splitlines() if line.startswith("Vm"))
            found.append((int(sizes["VmPeak"].split()[0]) << 10, int(sizes["VmHWM"].split()[0]) << 10))
    spaces, resident = zip(*found, strict=True)
    return max(spaces), max(resident)


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
    port: int, pid: int, requests: int, parallel: int, cut_share: float, seed: int, filling: float, patience: float
) -> Outcome:
    outcome, chance = Outcome(), random.Random(seed)
    load = Load(port, chance, cut_share, outcome, functools.partial(scripted_question, filling=filling), patience)
    engines = await started_engines(load, pid, requests)

    async def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            await load.one(number)

    for part in range(_RESTS):
        numbers = iter(range(part * requests // _RESTS, (part + 1) * requests // _RESTS))
        await asyncio.gather(*(work(numbers) for _ in range(parallel)))
        await rest(port)
        pids = [each for each in (pid, *engines) if Path(f"/proc/{each}").exists()]  # who is gone is told as lost
        if sys.platform == "linux":
            descriptors = sum(len(os.listdir(f"/proc/{each}/fd")) for each in pids)
            outcome.at_rest.append((sum(map(own_bytes, pids)), descriptors))
    outcome.counts["engines lost"] = len(set(engines) - set(engines_of(pid)))
    return outcome


async def rest(port: int) -> None:
    """Wait until no request runs, and the engine has had the time to look whether one has left something behind."""
    async with asyncio.timeout(300):
        while await _running(port):
            await asyncio.sleep(0.05)
    await asyncio.sleep(_QUIET_SECONDS)


def num_failures(log: Path) -> int:
    """How many engines said that they failed, as one does whose books are wrong when it ends."""
    return log.read_text().count("the engine failed")


def num_dead(server: subprocess.Popen[bytes], engines: list[int]) -> int:
    """Of the server and these engines of it."""
    return len(set(engines) - set(engines_of(server.pid))) + (server.poll() is not None)


def count_end(counts: Counter[str], held: dict[str, int], log: Path) -> None:
    """Count among the "deaths" of a server that has ended the engines that failed only then, and what was "held at the
    end"; a log that tells of deaths is printed."""
    counts["deaths"] = max(counts["deaths"], num_failures(log))
    counts["held at the end"] = sum(held.values())
    if counts["deaths"]:
        print(log.read_text()[-3000:], file=sys.stderr)


async def _running(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    health = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    writer.close()
    return health["num_running"] + health["num_waiting"]


@contextlib.contextmanager
def load_server(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int, dict[str, int]]]:
    """A `load_server` with its port; the mapping holds, when it has ended, its `last_words`."""
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
        line = server.stdout.readline()
        held |= last_words(line, server.wait())


def last_words(line: bytes, returncode: int) -> dict[str, int]:
    """What a server says at its end that it still held; and a "bad end" where it says nothing, or has failed."""
    told = json.loads(line or b"{}")
    return {**told, "bad ends": int(not told or returncode != 0)}


def load(
    requests: int,
    parallel: int = 64,
    cut_share: float = 0.2,
    seed: int = 1,
    filling: float = 60.0,
    patience: float = 0.3,
) -> Outcome:
    """Start a server, load it, end it; what happened."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        with load_server(home) as (server, port, held):
            started = time.monotonic()
            driving = _drive(port, server.pid, requests, parallel, cut_share, seed, filling, patience)
            outcome = asyncio.run(driving)
            outcome.seconds = time.monotonic() - started
        outcome.held = held
        outcome.counts["engines lost"] = max(outcome.counts["engines lost"], num_failures(home / "log"))
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
    arguments.add_argument("--cut", type=float, default=0.2, help="the share of requests whose client wants to leave")
    arguments.add_argument("--filling", type=float, default=60, help="words in front of a question, in the mean")
    arguments.add_argument("--patience", type=float, default=0.3, help="seconds until one is cut, in the mean")
    wanted = arguments.parse_args()
    outcome = load(wanted.requests, wanted.parallel, wanted.cut, filling=wanted.filling, patience=wanted.patience)
    print(f"{outcome.seconds:.0f} s, {dict(outcome.counts)}, held {outcome.held}")
    for left, values in [*outcome.freed.items(), ("at its prompt", outcome.freed_in_prefill)]:
        print(f"cut to freed, {left}: {len(values)} rows, p50 {1000 * percentile(values, 0.5):.0f} ms, "
              f"p99 {1000 * percentile(values, 0.99):.0f} ms")  # fmt: skip
    print("bytes and descriptors at rest:", outcome.at_rest)
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
