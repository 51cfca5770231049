"""The requests under way, those that ended last, and the line in the log that each leaves."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable

from ..metrics import Metrics
from .record import RequestRecord, RequestView, Totals

logger = logging.getLogger(__name__)

_MAX_ENDED = 200
_MAX_AGENTS = 200


class RequestLedger:
    """One server's. `clock` gives seconds from any fixed point, `now` those since the epoch."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._live: dict[str, RequestRecord] = {}
        self._ended: deque[RequestView] = deque(maxlen=_MAX_ENDED)
        self._last_seen: dict[str, float] = {}
        self.totals = Totals()

    def open(self, request_id: str, agent: str, model: str) -> RequestRecord:
        """The record of a request that has just arrived. `agent` is who sent it, as far as is known."""
        now = self._now()
        record = RequestRecord(request_id, agent, model, self._metrics, self._clock, now, self.totals, self._close)
        self._live[request_id] = record
        self._last_seen.pop(agent, None)
        self._last_seen[agent] = now
        if len(self._last_seen) > _MAX_AGENTS:
            del self._last_seen[next(iter(self._last_seen))]
        return record

    def live(self) -> tuple[RequestView, ...]:
        """Those under way, the oldest first."""
        return tuple(record.view() for record in self._live.values())

    def ended(self) -> tuple[RequestView, ...]:
        """The last ones that ended, the newest first."""
        return tuple(reversed(self._ended))

    @property
    def last_seen(self) -> dict[str, float]:
        """When each agent's last request arrived, in seconds since the epoch."""
        return dict(self._last_seen)

    def _close(self, record: RequestRecord) -> None:
        self._live.pop(record.request_id, None)
        view = record.view()
        self._ended.append(view)
        logger.info("request %s", line(view))


def line(view: RequestView) -> str:
    """The request as `name=value` pairs, for people and for machines. None of its text, and no key."""
    fields = {
        "id": view.request_id,
        "agent": view.agent or "-",
        "model": view.model,
        "outcome": view.outcome,
        "cause": view.cause or "-",
        "seconds": f"{view.seconds:.2f}",
        "queue_ms": f"{1000 * view.queue_seconds:.0f}",
        "first_token_ms": f"{1000 * view.first_token_seconds:.0f}" if view.first_token_seconds else "-",
        "prompt_tokens": view.num_prompt_tokens,
        "cached_tokens": view.num_cached_tokens,
        "disk_tokens": view.num_disk_tokens,
        "miss": view.miss or "-",
        "miss_token": view.miss_token if view.miss else "-",
        "output_tokens": view.num_output_tokens,
        "prefill_tps": f"{view.prefill_rate:.1f}",
        "decode_tps": f"{view.decode_rate:.1f}",
    }
    return " ".join(f"{name}={_value(str(value))}" for name, value in fields.items())


def _value(text: str) -> str:
    """In quotes where it holds white space, so that a line splits into its pairs."""
    return json.dumps(text, ensure_ascii=False) if any(character.isspace() for character in text) else text
