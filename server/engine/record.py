"""What is remembered of one request: its times, one line in the log, its share of the metrics."""

from __future__ import annotations

import logging
from time import perf_counter

from ..events import Usage
from ..metrics import Metrics

logger = logging.getLogger(__name__)


class RequestRecord:
    """Begins when the request arrives. No text of the prompt or the answer is ever in it."""

    def __init__(self, request_id: str, model: str, metrics: Metrics) -> None:
        self._request_id = request_id
        self._model = model
        self._metrics = metrics
        self._observe_gap = metrics.token_gaps(model)
        self._arrived_at = perf_counter()
        self._queue_seconds = 0.0
        self._first_token_at = 0.0
        self._last_token_at = 0.0

    def admitted(self, usage: Usage) -> None:
        self._queue_seconds = perf_counter() - self._arrived_at
        self._metrics.admitted(self._model, usage, self._queue_seconds)

    def generated(self, count: int) -> None:
        """`count` tokens have come, in one step."""
        now = perf_counter()
        if not self._first_token_at:
            self._first_token_at = now
            self._metrics.first_token(self._model, now - self._arrived_at)
        else:
            for _ in range(count):
                self._observe_gap((now - self._last_token_at) / count)
        self._last_token_at = now

    def ended(self, usage: Usage, outcome: str) -> None:
        now = perf_counter()
        self._metrics.finished(self._model, usage, outcome, now - self._arrived_at)
        decode_seconds = self._last_token_at - self._first_token_at
        rate = (usage.num_output_tokens - 1) / decode_seconds if decode_seconds > 0 else 0.0
        first_token = f"{1000 * (self._first_token_at - self._arrived_at):.0f} ms" if self._first_token_at else "-"
        logger.info(
            "request %s: model %s, admitted after %.0f ms, %d prompt tokens (%d cached), %d output tokens, "
            "first token after %s, %.1f tokens/s, %s",
            self._request_id,
            self._model,
            1000 * self._queue_seconds,
            usage.num_prompt_tokens,
            usage.num_cached_tokens,
            usage.num_output_tokens,
            first_token,
            rate,
            outcome,
        )
