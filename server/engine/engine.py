"""The step loop's body: the scheduler decides, the batch computes, the updates say what happened."""

from __future__ import annotations

from collections.abc import Callable, Container

from msgspec import structs

from ..errors import (
    ContextOverflow,
    EngineFailure,
    InvalidRequest,
    Overloaded,
    RequestError,
    RequestFailed,
    ServiceError,
)
from ..events import FinishReason
from ..log_format import described
from .batch import END_OF_GRAMMAR, GRAMMAR_FAILED, NOT_A_NUMBER, ROW_FAILED, BatchEngine, BatchInfo
from .messages import Batching, Encode, EngineStats, MemoryLimit, SequenceUpdate, StepOutput, Submit
from .scheduler import Scheduler
from .sequence import Sequence, SequenceStatus

MOST_FAILED = 16
"""So many requests that fail one after the other are hardly to blame themselves."""
_FAILURES = {
    GRAMMAR_FAILED: "the answer's grammar became too complex; ask for a simpler one",
    ROW_FAILED: "the engine failed at choosing this answer's tokens; the log has the details",
    NOT_A_NUMBER: "the model came to no number (NaN) at the next token; another quantization of it may do better",
}


class Engine:
    """Runs requests to their end, one `step` at a time. Not thread-safe.

    `clock` gives seconds from any fixed point. `cancelled` names requests for which `cancel` will come; another thread
    may write it. It is looked at while prompts are computed, too; where rows are freed amid that, `on_freed` is called,
    in which `news` may be told.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        batch: BatchEngine,
        clock: Callable[[], float],
        cancelled: Container[str] = (),
        on_freed: Callable[[], object] = lambda: None,
    ) -> None:
        self._scheduler = scheduler
        self._batch = batch
        self._clock = clock
        self._cancelled = cancelled
        self._on_freed = on_freed
        self._updates: dict[str, SequenceUpdate] = {}
        self._is_checked = True
        self._num_failed = 0
        """Requests, since one was last told a token."""
        self._has_decoded = False
        """Since a prompt was last computed."""
        self._computed: list[str] = []
        """Whose prompts are computed now, or were last."""
        batch.listen(self._go_on)

    @property
    def has_work(self) -> bool:
        return bool(self._updates or self._scheduler.running or self._scheduler.waiting)

    @property
    def info(self) -> BatchInfo:
        return self._batch.info

    @property
    def batching(self) -> Batching:
        return self._batch.batching

    def idle(self) -> bool:
        """Called without work: a small piece of what can wait, and whether there is more of it. `check` comes first."""
        self.check()
        return self._batch.idle()

    def check(self) -> None:
        """Raises `AssertionError`, once after the last request, where one left something behind, which the next ones
        would miss. Nobody is harmed by a new engine then. While there are requests, nothing is looked at."""
        if not self._is_checked and not self._scheduler.running and not self._scheduler.waiting:
            self._batch.check()
            self._is_checked = True

    def rest(self) -> None:
        """Nothing has come for a while."""
        self._batch.rest()

    def close(self) -> None:
        self._batch.close()

    def submit(self, request: Submit | Encode) -> None:
        """Accept the request or refuse it; the next step's output says which."""
        if isinstance(request, Encode):
            error = InvalidRequest("this model writes text; it encodes none", "model")
            self._updates[request.request_id] = refusal(request.request_id, error)
            return
        self._is_checked = False
        try:
            self._check(request)
            num_cached_tokens = self._batch.match(request)
            sequence = self._scheduler.add(request, num_cached_tokens, self._clock())
            if sequence is None:
                raise Overloaded(f"{len(self._scheduler.waiting)} requests wait already; try again shortly")
            sequence.fetching = self._batch.fetch(request)
            sequence.is_fetched = next(sequence.fetching, None) is None
        except (RequestError, ServiceError) as error:
            self._updates[request.request_id] = refusal(request.request_id, error)
        else:
            self._updates[request.request_id] = SequenceUpdate(request.request_id, num_cached_tokens=num_cached_tokens)

    def limit(self, limit: MemoryLimit) -> None:
        """Other models have come or gone. A prompt that fits no more, even alone, is refused as if it came now."""
        room = self._scheduler.room
        room.limit_bytes = limit.num_bytes
        for sequence in [*self._scheduler.waiting, *self._scheduler.running]:
            try:
                if not sequence.num_output_tokens:
                    room.check(sequence.request)
            except ContextOverflow as error:
                self._fail(sequence, error)

    def cancel(self, request_id: str) -> None:
        """Drop the request now. What it computed stays in the prefix cache."""
        self._updates.pop(request_id, None)
        if self._scheduler.remove(request_id) is not None:
            self._batch.release(request_id)

    def step(self) -> StepOutput:
        """Half a turn: one decode step of all rows, or after one, a prefill chunk of one sequence or several short
        prompts, and what has come from the disk for another. What came meanwhile is looked at between the two, so that
        a short prompt waits for half a step, not for that and another one."""
        self._keep_within_memory()
        started = self._clock()
        plan, fetching = self._scheduler.schedule(started), self._scheduler.fetching(started)
        if plan.decode and not (self._has_decoded and (plan.prefill or fetching)):
            self._decode({sequence.request_id: sequence for sequence in plan.decode})
            self._has_decoded = True
        else:
            if plan.decode and fetching:
                self._fetch(fetching, started)
                plan = self._scheduler.schedule(self._clock())
            self._compute_prompts(plan.prefill, started, decoding=bool(plan.decode))
            self._has_decoded = False
        return self.news()

    def _fetch(self, sequences: list[Sequence], started: float) -> None:
        """Take up what the disk has read for prompts that wait, for as long as decoding rows may wait for that."""
        for sequence in sequences:
            for has_come in sequence.fetching:
                if self._clock() - started > self._scheduler.fetch_seconds:
                    return
                if not has_come:
                    break
            else:
                sequence.is_fetched = True

    def _compute_prompts(self, sequence: Sequence | None, started: float, *, decoding: bool) -> None:
        """`started`, the turn has what it spends on prompts counted from then on."""
        spent = self._clock() - started
        while sequence is not None:
            self._compute(sequence, decoding, spent)
            now = self._clock()
            spent = now - started
            sequence = self._scheduler.another(spent, now)

    def news(self) -> StepOutput:
        """What there is to tell, and nothing computed for it."""
        updates, self._updates = list(self._updates.values()), {}
        return StepOutput(updates, self._stats())

    def _check(self, request: Submit) -> None:
        if request.request_id in self._scheduler:
            raise InvalidRequest(f"request id {request.request_id!r} is in use; take another")
        if not request.token_ids:
            raise InvalidRequest("the prompt has no tokens; send at least one")
        if request.max_tokens < 1:
            raise InvalidRequest(f"max_tokens is {request.max_tokens}; ask for at least 1", "max_tokens")
        self._scheduler.room.check(request)

    def _keep_within_memory(self) -> None:
        """End what has outgrown the memory, the last to come first, which may come again; the answer of one that is
        alone has filled what there is, as it would its window. Prefixes may have what sequences do not need."""
        room = self._scheduler.room
        left = room.left(self._scheduler.running)
        if left < 0:  # what is expected of a sequence is never less than what it has
            error = Overloaded("the requests that run have filled the memory; try again", 5)
            while (sequence := room.first_to_end(self._scheduler.running)) is not None:
                if len(self._scheduler.running) > 1:
                    self._fail(sequence, error)
                else:
                    counts = sequence.num_computed_tokens, sequence.num_cached_tokens
                    self._update(SequenceUpdate(sequence.request_id, *counts, finish_reason=FinishReason.LENGTH))
                    self._end(sequence)
            left = room.left(self._scheduler.running)
        self._batch.bound_prefixes(max(0, left))

    def _decode(self, rows: dict[str, Sequence]) -> None:
        started = self._clock()
        generated = self._batch.decode()
        self._scheduler.observe_decode(self._clock() - started)
        for request_id, token_ids in generated.items():
            self._advance(rows[request_id], token_ids)

    def _compute(self, sequence: Sequence, decoding: bool, spent: float) -> None:
        """Compute a piece of the sequence's prompt, or what is left of it together with other short ones, in a turn
        that has computed prompts for `spent` seconds."""
        if sequence.status is SequenceStatus.WAITING and not self._open(sequence):
            return
        info, started = self._batch.info, self._clock()
        count = self._scheduler.chunk(sequence, decoding, info.checkpoint_tokens if info.checkpointed else 0)
        if self._batch.takes_prompts_together and count == sequence.num_remaining_tokens:
            counts = {sequence: count, **self._company(sequence, decoding, spent)}
            if len(counts) > 1:
                self._compute_together(counts)
                return
        self._computed = [sequence.request_id]
        try:
            token_ids = self._batch.prefill(sequence.request_id, count)
        except RequestFailed as error:
            self._fail(sequence, error)
            self._blame(error)
            return
        if sequence.request_id in self._cancelled:
            self.cancel(sequence.request_id)
            return
        self._scheduler.observe_piece(sequence, count, self._clock() - started, decoding)
        sequence.num_computed_tokens += count
        if sequence.is_decoding:
            self._match_waiting()
        else:
            for waiting, count in self._scheduler.waiting_for(sequence):
                self._update(SequenceUpdate(waiting.request_id, 0, waiting.num_cached_tokens, num_awaited_tokens=count))
        self._advance(sequence, token_ids)

    def _go_on(self) -> bool:
        """Amid the work on prompts: whether anybody waits for it still. All others that have left are dropped now. Of
        several prompts in one pass, those that left are dropped at its end: their arrays are the others' too."""
        held = [*self._scheduler.running, *self._scheduler.waiting]
        left = [each.request_id for each in held if each.request_id in self._cancelled]
        dropped = [request_id for request_id in left if request_id not in self._computed]
        for request_id in dropped:
            self.cancel(request_id)
        if dropped:
            self._on_freed()
        return len(left) - len(dropped) < len(self._computed)

    def _open(self, sequence: Sequence) -> bool:
        """Give the sequence a row on its cached prefix; False where the batch refuses it, or fails at it."""
        queue_seconds = self._clock() - sequence.arrived
        sequence.fetching = iter(())
        self._batch.bound_prefixes(max(0, self._scheduler.room.left([*self._scheduler.running, sequence])))
        try:
            self._scheduler.start(sequence, self._batch.open(sequence.request))
        except (RequestError, Overloaded, RequestFailed) as error:
            self._scheduler.remove(sequence.request_id)
            self._updates[sequence.request_id] = refusal(sequence.request_id, error)
            self._blame(error)
            return False
        sequence.queue_seconds = queue_seconds
        sequence.prefix = self._batch.prefix(sequence.request_id)
        return True

    def _company(self, sequence: Sequence, decoding: bool, spent: float) -> dict[Sequence, int]:
        """Short prompts, opened, to compute beside this one, with what is left of each. One that has less in the cache
        than it seemed is left to a turn of its own."""
        counts: dict[Sequence, int] = {}
        for other in self._scheduler.company(sequence, decoding, self._clock(), spent):
            expected = other.num_remaining_tokens
            if self._open(other) and other.num_remaining_tokens <= expected:
                counts[other] = other.num_remaining_tokens
        return counts

    def _compute_together(self, counts: dict[Sequence, int]) -> None:
        """What is left of each prompt, in one pass. What that takes says nothing of one prompt's price. A pass that
        fails is done again prompt by prompt, which tells whose fault it was."""
        self._computed = [sequence.request_id for sequence in counts]
        try:
            tokens = self._batch.prefill_together({sequence.request_id: count for sequence, count in counts.items()})
        except RequestFailed:
            for sequence in counts:
                self._batch.release(sequence.request_id)
                self._scheduler.put_back(sequence, self._batch.match(sequence.request))
            return
        for sequence, count in counts.items():
            sequence.num_computed_tokens += count
        self._match_waiting()
        for sequence in counts:
            if sequence.request_id in self._cancelled:
                self.cancel(sequence.request_id)
            else:
                self._advance(sequence, tokens[sequence.request_id])

    def _match_waiting(self) -> None:
        """What has been computed may be what others wait for."""
        for waiting in self._scheduler.waiting:
            waiting.num_cached_tokens = self._batch.match(waiting.request)

    def _advance(self, sequence: Sequence, token_ids: list[int]) -> None:
        """Report the new tokens up to the request's end, and release its row there."""
        request = sequence.request
        kept: list[int] = []
        reason = None
        for token_id in token_ids:
            if token_id in _FAILURES:
                error = RequestFailed(_FAILURES[token_id])
                self._fail(sequence, error)
                if token_id == NOT_A_NUMBER:
                    self._blame(error)
                return
            if token_id == END_OF_GRAMMAR or token_id in request.stop_token_ids:
                reason = FinishReason.STOP
                break
            kept.append(token_id)
            if sequence.num_output_tokens + len(kept) >= request.max_tokens:
                is_complete = token_ids[len(kept) :] == [END_OF_GRAMMAR]
                reason = FinishReason.STOP if is_complete else FinishReason.LENGTH
                break
        sequence.num_output_tokens += len(kept)
        self._num_failed = 0 if kept else self._num_failed
        update = SequenceUpdate(
            sequence.request_id, sequence.num_computed_tokens, sequence.num_cached_tokens, kept, reason
        )
        if not sequence.num_output_tokens or sequence.num_output_tokens == len(kept):  # of the prompt's own steps
            prefix = sequence.prefix
            update = structs.replace(
                update,
                queue_seconds=sequence.queue_seconds,
                num_disk_tokens=prefix.num_disk_tokens,
                miss=prefix.miss,
                miss_token=prefix.miss_token,
            )
        if token_ids and request.logprobs is not None:
            scores = self._batch.logprobs(sequence.request_id)
            update = structs.replace(update, logprobs=scores.tokens[: len(kept)], prompt_logprobs=scores.prompt)
        self._update(update)
        if reason is not None:
            self._end(sequence)

    def _update(self, update: SequenceUpdate) -> None:
        pending = self._updates.get(update.request_id)
        self._updates[update.request_id] = update.joined_to(pending) if pending else update

    def _fail(self, sequence: Sequence, error: RequestError | ServiceError) -> None:
        self._updates[sequence.request_id] = refusal(sequence.request_id, error)
        self._end(sequence)

    def _end(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence.request_id)
        self._batch.release(sequence.request_id)

    def _blame(self, error: RequestError | ServiceError) -> None:
        """Raises where a new engine is likelier to mend it than other requests."""
        self._num_failed += isinstance(error, RequestFailed)
        if self._num_failed >= MOST_FAILED:
            raise EngineFailure(f"{self._num_failed} requests in a row failed: {described(error.__cause__ or error)}")

    def _stats(self) -> EngineStats:
        memory, waiting = self._batch.memory(), self._scheduler.waiting
        return EngineStats(
            len(self._scheduler.running),
            len(waiting),
            memory.cache_bytes,
            memory.memory_bytes,
            self._clock() - waiting[0].arrived if waiting else 0.0,
            memory.cache_trouble,
            memory.num_damaged_blocks,
            self._batch.drafts,
            memory.ranks,
            memory.max_cache_bytes,
            memory.num_evicted_blocks,
            memory.disk_written_bytes,
            self._scheduler.room.claimed(self._scheduler.running, waiting),
        )


def refusal(request_id: str, error: RequestError | ServiceError) -> SequenceUpdate:
    """The update that ends a request with an error, written `CODE: MESSAGE` with the error's own code."""
    return SequenceUpdate(request_id, error=f"{error.code}: {error}")
