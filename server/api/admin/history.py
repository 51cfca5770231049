"""The last half hour in figures, one sample every few seconds, for the charts."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import astuple, dataclass

from ...engine.ledger import RequestLedger, Totals
from ...engine.process import EngineProcess
from ...models.pool import ModelPool

_SECONDS = 3.0
_MAX_SAMPLES = 600
_ROW = struct.Struct("<dqqdddq")
"""The fields of a `Sample`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Tokens in a second since the sample before; sizes in bytes; `time` in seconds since the epoch."""

    time: float
    num_running: int
    num_waiting: int
    prefill_rate: float
    decode_rate: float
    cached_rate: float
    memory_bytes: int


class History:
    def __init__(self, pool: ModelPool[EngineProcess], ledger: RequestLedger) -> None:
        self._pool = pool
        self._ledger = ledger
        self._rows = bytearray(_ROW.size * _MAX_SAMPLES)  # all its memory at once: a server's is not to creep
        self._num_taken = 0
        self._before = (time.monotonic(), Totals())

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The oldest first."""
        end = self._num_taken % _MAX_SAMPLES * _ROW.size
        before = self._rows[end:] if self._num_taken >= _MAX_SAMPLES else b""
        return tuple(Sample(*row) for row in _ROW.iter_unpack(before + self._rows[:end]))

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            self.take(time.monotonic())

    def take(self, now: float) -> None:
        (then, before), totals = self._before, self._ledger.totals.copy()
        seconds = max(now - then, 1e-9)
        stats = [engine.stats for engine in self._pool.engines.values()]
        sample = Sample(
            time=time.time(),
            num_running=sum(each.num_running for each in stats),
            num_waiting=sum(each.num_waiting for each in stats),
            prefill_rate=(totals.num_computed_tokens - before.num_computed_tokens) / seconds,
            decode_rate=(totals.num_output_tokens - before.num_output_tokens) / seconds,
            cached_rate=(totals.num_cached_tokens - before.num_cached_tokens) / seconds,
            memory_bytes=sum(each.memory_bytes for each in stats),
        )
        _ROW.pack_into(self._rows, self._num_taken % _MAX_SAMPLES * _ROW.size, *astuple(sample))
        self._num_taken += 1
        self._before = (now, totals)
