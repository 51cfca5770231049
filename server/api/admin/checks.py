"""Probes and benchmarks of this server, run from the pages: one at a time, the last of each kind remembered."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from ...errors import Conflict
from ...requests import Json
from .command_line import run_omlx

logger = logging.getLogger(__name__)


class CheckKind(StrEnum):
    PROBE = "probe"
    BENCH = "bench"


class CheckState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Check:
    """`result` is what the command prints with `--json`; `error` its last words where it has none. `started_at` is in
    seconds since the epoch."""

    kind: CheckKind
    model: str
    started_at: float
    state: CheckState = CheckState.RUNNING
    seconds: float = 0.0
    result: Any = None
    error: str = ""


class Checks:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._last: dict[CheckKind, Check] = {}
        self._running: asyncio.Task[None] | None = None

    @property
    def last(self) -> tuple[Check, ...]:
        return tuple(self._last.values())

    def start(self, kind: CheckKind, model: str) -> Check:
        """Raises `Conflict` while another one runs."""
        if self._running is not None and not self._running.done():
            raise Conflict("a check runs already; wait for it, or cancel it")
        check = self._last[kind] = Check(kind, model, time.time())
        self._running = asyncio.create_task(self._run(check))
        return check

    async def cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _run(self, check: Check) -> None:
        begun = time.monotonic()
        try:
            ran = await run_omlx(self._home, check.kind, "--model", check.model, "--json")
            check.result = _decoded(ran.output)
            if check.result is None:
                check.state = CheckState.FAILED
                check.error = (ran.errors.strip().splitlines() or ["it printed nothing"])[-1]
            else:
                check.state = CheckState.DONE
        except asyncio.CancelledError:
            check.state = CheckState.CANCELLED
            raise
        except OSError as error:
            check.state, check.error = CheckState.FAILED, str(error)
        finally:
            check.seconds = time.monotonic() - begun


def _decoded(output: bytes) -> Json:
    try:
        return msgspec.json.decode(output)
    except msgspec.DecodeError:
        return None
