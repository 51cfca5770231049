"""Texts into vectors, in the engine process: inputs of all requests are encoded together, first come, first served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import EngineFailure, InvalidRequest, RequestFailed
from ..events import FinishReason
from ..log_format import described
from .batch import BatchInfo
from .engine import MOST_FAILED, refusal
from .faults import contained
from .messages import Batching, Encode, EncoderInput, EngineStats, MemoryLimit, SequenceUpdate, StepOutput, Submit

MAX_ROWS = 64
MAX_BATCH_TOKENS = 16_384
"""Rows times the longest of them: what is computed at once."""


class Encoder(Protocol):
    @property
    def info(self) -> BatchInfo: ...

    def encode(self, inputs: Sequence[EncoderInput]) -> list[bytes]:
        """A vector of little-endian floats for each input."""
        ...

    def rest(self) -> None:
        """Called when nothing has come for some seconds: give back memory that is free."""
        ...


@dataclass(slots=True)
class _Open:
    """A request on its way. `left` are the numbers of the inputs to come, the longest last."""

    request: Encode
    arrived: float
    left: list[int]
    vectors: dict[int, bytes] = field(default_factory=dict)


class EncodingEngine:
    """What `worker` runs for a model that encodes. A step is one batch."""

    def __init__(self, encoder: Encoder, clock: Callable[[], float]) -> None:
        self._encoder = encoder
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._updates: list[SequenceUpdate] = []
        self._num_failed = 0
        """Requests, since a batch was last encoded."""

    @property
    def info(self) -> BatchInfo:
        return self._encoder.info

    @property
    def batching(self) -> Batching:
        return Batching("batched", drafting="none", drafting_reason="encoders write no text")

    @property
    def has_work(self) -> bool:
        return bool(self._open or self._updates)

    def submit(self, request: Submit | Encode) -> None:
        if isinstance(request, Submit):
            error = InvalidRequest("this model encodes texts; it writes none", "model")
            self._updates.append(refusal(request.request_id, error))
            return
        lengths = [len(each.token_ids) for each in request.inputs]
        left = sorted(range(len(lengths)), key=lengths.__getitem__)
        self._open[request.request_id] = _Open(request, self._clock(), left)

    def cancel(self, request_id: str) -> None:
        self._open.pop(request_id, None)

    def limit(self, limit: MemoryLimit) -> None:
        """Batches are small and of a fixed size, whatever memory there is."""

    def step(self) -> StepOutput:
        """Encode a batch, and tell the requests that are complete with it."""
        batch = self._next_batch()
        if batch:
            self._encode(batch)
        for one in [one for one in self._open.values() if len(one.vectors) == len(one.request.inputs)]:
            del self._open[one.request.request_id]
            ordered = [one.vectors[number] for number in range(len(one.vectors))]
            self._updates.append(
                SequenceUpdate(one.request.request_id, finish_reason=FinishReason.STOP, vectors=ordered)
            )
        return self.news()

    def news(self) -> StepOutput:
        """What there is to tell, and nothing encoded for it."""
        updates, self._updates = self._updates, []
        return StepOutput(updates, self._stats())

    def idle(self) -> bool:
        return False

    def rest(self) -> None:
        self._encoder.rest()

    def check(self) -> None:
        """What a request has is gone with it."""

    def close(self) -> None:
        pass

    def _encode(self, batch: Sequence[tuple[_Open, int]]) -> None:
        """Encode the batch; where that fails, each request of it by itself, which tells whose fault it was. Nothing
        outlives a batch, so others are not concerned."""
        names = list(dict.fromkeys(one.request.request_id for one, _ in batch))
        try:
            with contained(names):
                vectors = self._encoder.encode([one.request.inputs[number] for one, number in batch])
        except RequestFailed as error:
            if len(names) == 1:
                del self._open[names[0]]
                self._updates.append(refusal(names[0], error))
                self._num_failed += 1
                if self._num_failed >= MOST_FAILED:
                    reason = described(error.__cause__ or error)
                    raise EngineFailure(f"{self._num_failed} requests in a row failed: {reason}") from error
                return
            for name in names:
                self._encode([(one, number) for one, number in batch if one.request.request_id == name])
            return
        self._num_failed = 0
        for (one, number), vector in zip(batch, vectors, strict=True):
            one.vectors[number] = vector

    def _next_batch(self) -> list[tuple[_Open, int]]:
        batch: list[tuple[_Open, int]] = []
        width = 0
        for one in self._open.values():
            while one.left:
                width = max(width, len(one.request.inputs[one.left[-1]].token_ids))
                if batch and (len(batch) == MAX_ROWS or width * (len(batch) + 1) > MAX_BATCH_TOKENS):
                    return batch
                batch.append((one, one.left.pop()))
        return batch

    def _stats(self) -> EngineStats:
        oldest = min((one.arrived for one in self._open.values()), default=None)
        waiting = 0.0 if oldest is None else self._clock() - oldest
        return EngineStats(0, len(self._open), waiting_seconds=waiting)
