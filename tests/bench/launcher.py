"""How soon `omlx` is there: `python -m tests.bench.launcher [--rounds N]`, beside `python -c pass` on the same machine.

The launch meets a server that runs and an agent that says when it was started, so the figure is the whole way from
the shell to the agent, with the server's answers in it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from ..launcher.fake_server import FakeServer, Reply, running

OMLX = str(Path(sys.executable).parent / "omlx")
_AGENT = "#!/bin/sh\ndate +%s%N\n"
_GOALS = {"omlx --help": 150, "omlx launch, until the agent runs": 400}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, running() as server:
        measured = figures(Path(folder), server, rounds)
    print("| what | median | best | goal |\n|---|--:|--:|--:|")
    for name, seconds in measured.items():
        goal = f"under {_GOALS[name]} ms" if name in _GOALS else ""
        print(f"| `{name}` | {1000 * median(seconds):.0f} ms | {1000 * min(seconds):.0f} ms | {goal} |")


def figures(folder: Path, server: FakeServer, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round; all three take turns, so that a busy moment meets them alike."""
    agent = folder / "bin" / "pi"
    agent.parent.mkdir()
    agent.write_text(_AGENT)
    agent.chmod(0o755)
    server.serve_models({"id": "m", "max_model_len": 131_072})
    server.answers["/v1/launches"] = lambda _: Reply({"id": "a", "state": "ready"})
    server.answers["/v1/launches/a"] = lambda _: Reply({"id": "a", "state": "ready", "num_requests": 1})
    environment = {"HOME": str(folder), "PATH": f"{agent.parent}:/usr/bin:/bin", "OMLX_URL": server.url}
    ways: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: _until_end([sys.executable, "-c", "pass"]),
        "omlx --help": lambda: _until_end([OMLX, "--help"]),
        "omlx launch, until the agent runs": lambda: _until_agent([OMLX, "launch", "pi", "--yes"], environment),
    }
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            measured[name].append(way())
    return measured


def _until_end(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, env=dict(os.environ))
    return time.perf_counter() - began


def _until_agent(command: list[str], environment: dict[str, str]) -> float:
    began = time.time_ns()
    done = subprocess.run(command, capture_output=True, check=True, env=environment, stdin=subprocess.DEVNULL)
    return (int(done.stdout) - began) / 1e9


if __name__ == "__main__":
    main()
