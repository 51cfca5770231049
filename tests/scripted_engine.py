"""An engine process that plays a script: `python -m tests.scripted_engine --script FILE --fd N`.

It is the real worker, scheduler and wire around a batch without a model, so a server started on it behaves
as it would with one. The script is JSON: `answers`, lists of token ids in the order of the requests, how long each
decode step and each token of a prompt take, the bounds of the requests, how often an idle engine says that it lives,
what it says of its cache, why its first piece of a prompt is said to be held up, as a group's may be, the token
at which it fails to compute a prompt, and how it loads.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from omlx.server.engine.batch import MemoryUse
from omlx.server.engine.engine_log import start_engine_log
from omlx.server.engine.faults import contained
from omlx.server.engine.messages import DraftStats, EngineStalled
from omlx.server.engine.process import EngineCommand
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.engine.worker import report, run, set_signals

from .engine.scripted_batch import ScriptedBatch


class Script(msgspec.Struct):
    answers: list[list[int]]
    step_seconds: float = 0.0
    max_num_seqs: int = 16
    max_num_waiting: int = 256
    heartbeat_seconds: float = 5.0
    cache_trouble: str = ""
    prefill_seconds_per_token: float = 0.0
    stalls: str = ""
    poison: int | None = None
    load: str = ""
    """"stuck" for one that never ends, "slow" for one that takes five seconds and hardly computes meanwhile."""

    def command(self, path: Path) -> EngineCommand:
        """Write the script to `path`; the command that plays it."""
        path.write_bytes(msgspec.json.encode(self))
        argv = [sys.executable, "-m", "tests.scripted_engine", "--script", str(path)]
        return EngineCommand(argv, {"PYTHONPATH": str(Path(__file__).parents[1])})


class PacedBatch(ScriptedBatch):
    """Takes its time for each step, as a device does."""

    def __init__(
        self,
        answers: Sequence[Sequence[int]],
        step_seconds: float,
        cache_trouble: str = "",
        prefill_seconds_per_token: float = 0.0,
        first_stall: Callable[[], object] | None = None,
        poison: int | None = None,
    ) -> None:
        super().__init__(answers)
        self._poison = poison
        self._first_stall = first_stall
        self._step_seconds = step_seconds
        self._cache_trouble = cache_trouble
        self._prefill_seconds_per_token = prefill_seconds_per_token

    def prefill(self, request_id: str, count: int) -> list[int]:
        if self._first_stall is not None:
            self._first_stall()
            self._first_stall = None
        time.sleep(count * self._prefill_seconds_per_token)
        with contained([request_id]):
            if self._poison in self._requests[request_id].token_ids:
                raise ValueError("a poison")
        return super().prefill(request_id, count)

    def decode(self) -> dict[str, list[int]]:
        time.sleep(self._step_seconds)
        return super().decode()

    @property
    def drafts(self) -> list[DraftStats]:
        return []

    def memory(self) -> MemoryUse:
        return MemoryUse(cache_trouble=self._cache_trouble)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args()
    start_engine_log()
    set_signals()
    script = msgspec.json.decode(arguments.script.read_bytes(), type=Script)
    limits = SchedulerLimits(max_num_seqs=script.max_num_seqs, max_num_waiting=script.max_num_waiting)
    connection = socket.socket(fileno=arguments.fd)
    stall = (lambda: report(connection, EngineStalled(script.stalls))) if script.stalls else None
    paces = script.step_seconds, script.cache_trouble, script.prefill_seconds_per_token
    batch = PacedBatch(script.answers, *paces, stall, script.poison)

    def load() -> PacedBatch:
        for _ in range(20 if script.load == "slow" else 0):
            time.sleep(0.25)
            sum(range(1_000_000))
        if script.load == "stuck":
            threading.Event().wait()
        return batch

    return run(connection, load, limits, script.heartbeat_seconds)


if __name__ == "__main__":
    sys.exit(main())
