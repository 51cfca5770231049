"""The charts' samples: as many as half an hour has, the oldest first."""

from __future__ import annotations

from omlx.server.api.admin.history import History
from omlx.server.engine.ledger import RequestLedger
from omlx.server.engine.process import EngineProcess
from omlx.server.metrics import Metrics
from omlx.server.models.device_memory import DeviceMemory
from omlx.server.models.pool import ModelPool


def _no_engine(_: object) -> EngineProcess:
    raise AssertionError


def test_the_newest_600_samples_are_kept_in_order() -> None:
    pool = ModelPool([], _no_engine, DeviceMemory(1, 1))
    history = History(pool, ledger := RequestLedger(Metrics(dict)))
    assert history.samples == ()
    now = history._before[0]
    for number in range(1, 1203):
        ledger.totals.num_output_tokens += number
        history.take(now := now + 1.0)
        rates = [round(sample.decode_rate) for sample in history.samples]
        assert rates == list(range(max(1, number - 599), number + 1))
    assert history.samples[-1].num_running == 0
