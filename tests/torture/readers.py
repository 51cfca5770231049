"""What clients that read slowly cost the server's memory, and the time of others: the same streams, of which some are
read at once in one turn, and a few bytes a second in the next.

    python -m tests.torture.readers --seconds 60 --turns 2

The turns alternate, so that what else the machine does is in both.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from .answers import fault_of
from .load import body_of, load_server, num_failures, own_bytes, percentile, post, rest
from .load_server import answer_to

NUM_SLOW = 8
_NUM_OTHERS = 4
_PATH = "/v1/chat/completions"
_LONG, _SHORT = 2500, 200
"""Words of an answer; the long ones take the engine about a minute."""
_WINDOW = 65_536
_SMALL_BUFFER = 4096
_SEND_BUFFER = 65_536
"""Of the server's kernel, a connection: its own would take minutes of a stream, and the server never wait."""
_SLOW_BYTES = 16
_SLOW_SECONDS = 1.0
MOST_BYTES = 10_000_000
"""That the server may have more while the slow ones are there."""
MOST_RATIO = 4.0
"""Of the others' 99th percentile with slow ones to that without; other work on the machine is in both, not evenly."""


@dataclass
class Readers:
    counts: Counter[str] = field(default_factory=Counter)
    """Streams that ended or were left, by what was wrong with them, and "streams" for all."""
    gaps: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    """Seconds between what came of the others' streams, by whether the slow ones were slow."""
    growth: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    """The most bytes of its own that the server had more than at rest before the turn, likewise; on Linux."""
    held: dict[str, int] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Of the 99th percentiles of the gaps, with the slow ones and without; without end where nothing came."""
        if not all(self.gaps.values()):
            return inf
        return percentile(self.gaps[True], 0.99) / percentile(self.gaps[False], 0.99)

    @property
    def wrong(self) -> int:
        return self.counts.total() - self.counts["streams"] + sum(self.held.values())


class _Turn:
    def __init__(self, port: int, server: int, found: Readers, is_slow: bool) -> None:
        self._port, self._server, self._found, self._is_slow = port, server, found, is_slow
        self._ends_at = 0.0

    async def run(self, seconds: float) -> None:
        before = self._own_bytes()
        self._ends_at = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(NUM_SLOW):
                tasks.create_task(self._read(f"long{number}x", _LONG))
            for number in range(_NUM_OTHERS):
                tasks.create_task(self._others(number))
            while time.monotonic() < self._ends_at:
                await asyncio.sleep(min(1.0, seconds / 10))
                growth = self._own_bytes() - before
                self._found.growth[self._is_slow] = max(self._found.growth[self._is_slow], growth)
        await rest(self._port)

    async def _others(self, number: int) -> None:
        while time.monotonic() < self._ends_at:
            await self._read(f"short{number}x", _SHORT)

    async def _read(self, word: str, num_words: int) -> None:
        """Read a stream to its end, or until the turn is over, and judge it."""
        prompt = f"say {word} times {num_words}"
        counts, is_slow = self._found.counts, self._is_slow and num_words == _LONG
        client = socket.socket()
        client.setblocking(False)
        if is_slow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        loop, raw = asyncio.get_running_loop(), bytearray()
        with client:
            await loop.sock_connect(client, ("127.0.0.1", self._port))
            await loop.sock_sendall(client, post(_PATH, body_of(_PATH, prompt, True)))
            try:
                async with asyncio.timeout(max(0.0, self._ends_at - time.monotonic())):
                    last = None
                    while piece := await loop.sock_recv(client, _SLOW_BYTES if is_slow else 65536):
                        raw += piece
                        now = time.monotonic()
                        if num_words == _SHORT and last is not None:
                            self._found.gaps[self._is_slow].append(now - last)
                        last = now
                        if is_slow:
                            await asyncio.sleep(_SLOW_SECONDS)
                    counts["broken off"] += not raw.endswith(b"0\r\n\r\n")
            except TimeoutError:
                pass  # the client leaves
        counts["streams"] += 1
        if fault := fault_of(_PATH, True, bytes(raw), answer_to(prompt)):
            counts[fault] += 1

    def _own_bytes(self) -> int:
        return own_bytes(self._server) if sys.platform == "linux" else 0


async def _drive(port: int, server: int, seconds: float, turns: int) -> Readers:
    first = Readers()
    await _Turn(port, server, first, is_slow=False).run(min(5.0, seconds))  # for all to be there
    found = Readers(first.counts)
    for _ in range(turns):
        for is_slow in (False, True):
            await _Turn(port, server, found, is_slow).run(seconds)
    return found


def readers(seconds: float, turns: int = 2) -> Readers:
    """So many turns of so many seconds without slow readers, and as many with them."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        with load_server(home, f"--window={_WINDOW}", f"--send-buffer={_SEND_BUFFER}") as (server, port, held):
            found = asyncio.run(_drive(port, server.pid, seconds, turns))
        found.held = held
        found.counts["engines lost"] = num_failures(home / "log")
        return found


def told(found: Readers) -> str:
    """The others' gaps, in both kinds of turn, and what the server had more."""
    without, with_slow = (
        " and ".join(f"{1000 * percentile(found.gaps[is_slow], share):.1f}" for share in (0.5, 0.99))
        for is_slow in (False, True)
    )
    before, after = (found.growth[is_slow] / 1e6 for is_slow in (False, True))
    return (
        f"the others' gaps p50 and p99 {without} ms without slow ones, {with_slow} ms with them, a p99 of "
        f"{found.ratio:.2f} times; the server had at most {before:+.1f} MB without, {after:+.1f} MB with them"
    )


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=60.0, help="of a turn")
    arguments.add_argument("--turns", type=int, default=2, help="of each kind")
    wanted = arguments.parse_args()
    found = readers(wanted.seconds, wanted.turns)
    print(f"{dict(found.counts)}, held {found.held}; {told(found)}")
    return 1 if found.wrong or found.growth[True] > MOST_BYTES or found.ratio > MOST_RATIO else 0


if __name__ == "__main__":
    sys.exit(main())
