"""From the death of an engine, or of a rank of a group, until every open stream has ended with its protocol's error.

python -m tests.torture.deaths
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ..e2e.test_distributed import engine_of, group
from ..tiny_model import build_tiny_model
from .answers import error_of
from .load import engines_of, load_server, num_failures, rest
from .load_server import MODEL

_TOKENS = 4000
_SIGNALS = (signal.SIGKILL, signal.SIGABRT)
_RANKS = ((1, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGKILL), (0, signal.SIGSTOP))


@dataclass
class Ends:
    """Seconds from the death to each stream's end, and how many ended without an error of their protocol."""

    seconds: list[float] = field(default_factory=list)
    num_cut: int = 0
    num_held: int = 0
    """Leases and streams that the servers still held at their ends, and bad ends; see `last_words`."""
    num_failures: int = 0
    """Of engines, by their own account: not of those that were killed, which give none."""


def engine_deaths(times: int) -> Ends:
    """Four streams, one of each dialect, whose engine is killed or aborts; so many times each."""
    ends = Ends()
    for number in [*_SIGNALS] * times:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            with load_server(home) as (server, port, held):
                _watch(ends, f"http://127.0.0.1:{port}", MODEL, lambda at=server.pid, how=number: _end(at, how))
                asyncio.run(rest(port))
            ends.num_held += sum(held.values())
            ends.num_failures += num_failures(home / "log")
    return ends


def rank_deaths() -> Iterator[tuple[str, Ends]]:
    """The same of a group of two, of which one rank's engine ends, or stands still."""
    for rank, how in _RANKS:
        with tempfile.TemporaryDirectory() as name:
            build_tiny_model(Path(name) / "models" / "tiny")
            with group(Path(name), Path(name) / "models") as (client, launcher):
                ends = Ends()
                _watch(ends, str(client.base_url), "tiny", lambda: os.kill(engine_of(launcher, rank), how))  # noqa: B023
                yield f"the engine of rank {rank} of 2, {how.name}", ends


def _end(server: int, how: signal.Signals) -> None:
    for engine in engines_of(server):
        os.kill(engine, how)


def _watch(ends: Ends, url: str, model: str, kill: Callable[[], None]) -> None:
    said = {"role": "user", "content": "say word times 3000"}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [said], "max_tokens": _TOKENS},
        "/v1/completions": {"prompt": said["content"], "max_tokens": _TOKENS},
        "/v1/messages": {"messages": [said], "max_tokens": _TOKENS},
        "/v1/responses": {"input": said["content"], "max_output_tokens": _TOKENS},
    }
    all_run = threading.Barrier(len(bodies) + 1)

    def read(path: str) -> tuple[float, str]:
        """When the stream ended, and its error."""
        came, body = b"", {**bodies[path], "model": model, "stream": True, "temperature": 0}
        try:
            with httpx.stream("POST", url.rstrip("/") + path, json=body, timeout=120) as answer:
                for piece in answer.iter_bytes():
                    if not came:
                        all_run.wait(120)
                    came += piece
        except httpx.TransportError:
            came = b""
        return time.monotonic(), error_of(path, came)

    with ThreadPoolExecutor(len(bodies)) as readers:
        reading = [readers.submit(read, path) for path in bodies]
        all_run.wait(120)
        kill()
        died_at = time.monotonic()
        for ended_at, error in (each.result() for each in reading):
            ends.seconds.append(ended_at - died_at)
            ends.num_cut += not error


def main() -> None:
    for what, ends in (("an engine", engine_deaths(1)), *rank_deaths()):
        times = ", ".join(f"{1000 * seconds:.0f}" for seconds in sorted(ends.seconds))
        print(f"{what}: streams ended after {times} ms, {ends.num_cut} without their error", flush=True)


if __name__ == "__main__":
    main()
