"""What is remembered of one request: its times and counts, and what can be read of them while it runs.

No text of the prompt or of the answer is ever in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from ..errors import ContextOverflow, InputTooLong, RequestError, ServiceError
from ..events import FinishReason, Usage
from ..metrics import Metrics
from .messages import SequenceUpdate

ABORT = "abort"
CLIENT_LEFT = "client_left"


class Phase(StrEnum):
    QUEUED = "queued"
    """It waits: for its model to load, or for its turn."""
    PREFILL = "prefill"
    DECODE = "decode"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request at one moment. Times in seconds; rates in tokens a second, 0 where there is none yet.

    `started_at` is since the epoch, `seconds` since then to now or to the end. `num_computed_tokens` counts the cached
    ones in; of these `num_disk_tokens` came from the disk. `eta_seconds` is how long the rest of the prompt will take,
    None where nobody can say. `miss` says why no more was cached, and `miss_token` is the first token that differs from
    all that was. `outcome` is how the request ended: a `FinishReason`, "abort" or "error"; `cause` what ended it before
    its time.
    """

    request_id: str
    agent: str
    model: str
    phase: Phase
    started_at: float
    seconds: float
    queue_seconds: float
    num_prompt_tokens: int
    num_computed_tokens: int
    num_cached_tokens: int
    num_disk_tokens: int
    num_output_tokens: int
    miss: str
    miss_token: int
    first_token_seconds: float
    prefill_rate: float
    decode_rate: float
    eta_seconds: float | None
    outcome: str
    cause: str


@dataclass(slots=True)
class Totals:
    """Since the server's start. `num_computed_tokens` are of prompts, without the cached ones, of which
    `num_disk_tokens` came from the disk."""

    num_requests: int = 0
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_disk_tokens: int = 0
    num_output_tokens: int = 0

    def copy(self) -> Totals:
        return replace(self)


class RequestRecord:
    """Begins when the request arrives; `ended` or `failed` is told once, and passes the last view to `on_end`.

    `clock` gives seconds from any fixed point, `started_at` is the time of day.
    """

    def __init__(
        self,
        request_id: str,
        agent: str,
        model: str,
        metrics: Metrics,
        clock: Callable[[], float],
        started_at: float,
        totals: Totals,
        on_end: Callable[[RequestRecord], None],
    ) -> None:
        self.request_id = request_id
        self._agent = agent
        self._model = model
        self._metrics = metrics
        self._clock = clock
        self._started_at = started_at
        self._totals = totals
        self._on_end = on_end
        self._token_gaps = metrics.token_gaps(model)
        self._arrived = clock()
        self._usage = Usage(0)
        self._num_computed_tokens = 0
        self._submitted = 0.0
        self._started = 0.0
        self._num_disk_tokens = 0
        self._miss, self._miss_token = "", 0
        self._first_token = 0.0
        self._last_token = 0.0
        self._num_output_tokens = 0
        self._ended = 0.0
        self._outcome = ""
        self._cause = ""

    def rendered(self, num_prompt_tokens: int) -> None:
        self._usage = Usage(num_prompt_tokens)

    def submitted(self) -> None:
        """It is handed to the engine."""
        self._submitted = self._clock()

    def admitted(self, usage: Usage) -> None:
        """The engine has taken it in."""
        self._usage = usage
        self._totals.num_requests += 1

    def computed(self, usage: Usage, update: SequenceUpdate) -> None:
        """So much of the prompt is in the cache."""
        before = self._num_computed_tokens
        if not self._started:
            self._started = (self._submitted or self._arrived) + update.queue_seconds
            self._num_disk_tokens = update.num_disk_tokens
            self._miss, self._miss_token = update.miss, update.miss_token
            self._totals.num_cached_tokens += usage.num_cached_tokens
            self._totals.num_disk_tokens += update.num_disk_tokens
            self._metrics.admitted(self._model, usage, update.num_disk_tokens, self._started - self._arrived)
            before = usage.num_cached_tokens
        self._totals.num_computed_tokens += update.num_computed_tokens - before
        self._usage = usage
        self._num_computed_tokens = update.num_computed_tokens

    def encoding(self) -> None:
        """The engine has taken it in, to make vectors of it: nothing is looked for in the prefix cache."""
        self._submitted = self._started = self._clock()
        self._totals.num_requests += 1
        self._metrics.encoding(self._model, self._usage.num_prompt_tokens, self._started - self._arrived)

    def encoded(self) -> None:
        """Its vectors are there, and it has ended."""
        self._num_computed_tokens = self._usage.num_prompt_tokens
        self.ended(self._usage, FinishReason.STOP.value)

    def generated(self, count: int) -> None:
        """`count` tokens have come, in one step."""
        now = self._clock()
        if not self._first_token:
            self._first_token = now
            self._metrics.first_token(self._model, now - self._arrived, now - (self._started or now))
        else:
            self._token_gaps.observe((now - self._last_token) / count, count)
        self._last_token = now
        self._num_output_tokens += count
        self._totals.num_output_tokens += count

    def ended(self, usage: Usage, outcome: str, cause: str = "") -> None:
        """It has ended, or was ended: then `cause` says by what, the code of an error say."""
        self._ended = self._clock()
        self._usage = usage
        self._outcome = outcome
        self._cause = cause
        decode_seconds = self._last_token - self._first_token if self._first_token else None
        self._metrics.finished(self._model, usage, outcome, self._ended - self._arrived, decode_seconds)
        self._on_end(self)

    def failed(self, error: BaseException, usage: Usage | None = None) -> None:
        """It was refused, its engine failed, or its client left before the engine had it."""
        usage = usage or self._usage
        if isinstance(error, ContextOverflow | InputTooLong):
            usage = Usage(error.num_tokens)
        if isinstance(error, asyncio.CancelledError):
            self.ended(usage, ABORT, CLIENT_LEFT)
        else:  # the class alone: an error's message may quote the prompt
            self.ended(
                usage, "error", error.code if isinstance(error, RequestError | ServiceError) else type(error).__name__
            )

    @property
    def is_ended(self) -> bool:
        return bool(self._ended)

    def view(self) -> RequestView:
        now = self._ended or self._clock()
        remaining = self._usage.num_prompt_tokens - self._num_computed_tokens
        rate = self._prefill_rate(now)
        is_computing = self._phase is Phase.PREFILL and rate > 0
        return RequestView(
            request_id=self.request_id,
            agent=self._agent,
            model=self._model,
            phase=self._phase,
            started_at=self._started_at,
            seconds=now - self._arrived,
            queue_seconds=(self._started or now) - self._arrived,
            num_prompt_tokens=self._usage.num_prompt_tokens,
            num_computed_tokens=self._num_computed_tokens,
            num_cached_tokens=self._usage.num_cached_tokens,
            num_disk_tokens=self._num_disk_tokens,
            num_output_tokens=self._num_output_tokens,
            miss=self._miss,
            miss_token=self._miss_token,
            first_token_seconds=max(0.0, self._first_token - self._arrived),
            prefill_rate=rate,
            decode_rate=self._decode_rate(now),
            eta_seconds=remaining / rate if is_computing else None,
            outcome=self._outcome,
            cause=self._cause,
        )

    @property
    def _phase(self) -> Phase:
        if self._ended:
            return Phase.ENDED
        if self._first_token:
            return Phase.DECODE
        return Phase.PREFILL if self._started else Phase.QUEUED

    def _prefill_rate(self, now: float) -> float:
        computed = self._num_computed_tokens - self._usage.num_cached_tokens
        seconds = (self._first_token or now) - self._started
        return computed / seconds if self._started and seconds > 0 else 0.0

    def _decode_rate(self, now: float) -> float:
        """Of the tokens after the first, which is the prompt's."""
        seconds = (self._last_token if self._ended else now) - self._first_token
        return (self._num_output_tokens - 1) / seconds if self._num_output_tokens > 1 and seconds > 0 else 0.0
