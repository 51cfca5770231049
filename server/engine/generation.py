"""One answer: a request rendered, admitted by the engine, and its tokens turned into events.

This is the one pipeline that every dialect shares, streaming or not. It runs in the API process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from threading import Event as Flag
from typing import Protocol

from ..errors import ContextOverflow, InvalidRequest, OmlxError
from ..events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Logprobs,
    PrefillProgress,
    PromptLogprobs,
    ToolCallDelta,
    Usage,
)
from ..models.catalog import ENCODERS
from ..models.lease import Lease
from ..models.pool import ModelPool
from ..prompts.recall import AnswerMemory, parts_of
from ..prompts.render import Prompt
from ..prompts.tool_order import ToolOrder
from ..requests import GenerationRequest
from .constraints import needs_grammar
from .ledger import RequestLedger
from .messages import SequenceUpdate, Submit
from .model_text import ModelText
from .openings import Openings
from .process import EngineProcess
from .record import ABORT, CLIENT_LEFT, RequestRecord
from .several import GenerationGroup

_LONG_BYTES = 1 << 20
"""Longer requests to a model are rendered one at a time: each takes several times its size meanwhile."""
_MAX_RENDERINGS = 4
"""Of a model's other requests."""


class Sink(Protocol):
    """Takes events from whoever has them, while it `is_open`."""

    @property
    def is_open(self) -> bool: ...

    def write(self, events: list[Event]) -> None: ...


class Generation:
    """A request handed to the engine. `next` gives its events step by step, the last one a `Finished`.

    Whoever holds it calls `close`, early or late: that stops the engine's work within one step.
    """

    def __init__(
        self,
        request: GenerationRequest,
        text: ModelText,
        prompt: Prompt,
        lease: Lease[EngineProcess],
        record: RequestRecord,
        grammar: str = "",
        on_answer: Callable[[Sequence[Delta]], None] = lambda _: None,
    ) -> None:
        self._lease = lease
        self._record = record
        self._text = text
        self._decoder = text.decoder(request, prompt)
        self._grammar_param = request.output_format.param if request.output_format else "tools" if grammar else ""
        self._on_answer = on_answer
        self._deltas: list[Delta] = []
        self._num_computed_tokens = 0
        self._num_output_tokens = 0
        self._admitted_usage = Usage(len(prompt.token_ids))
        self._is_admitted = False
        self.is_finished = False
        self._pending: SequenceUpdate | None = None
        record.submitted()
        self._stream = lease.engine.submit(_submit(request, text, prompt, grammar))

    @property
    def usage(self) -> Usage:
        """The tokens so far."""
        return replace(
            self._admitted_usage,
            num_output_tokens=self._num_output_tokens,
            num_reasoning_tokens=self._decoder.num_reasoning_tokens,
        )

    async def admitted(self, patience: float | None = None) -> None:
        """Wait until the engine has taken the request in, at most `patience` seconds; raises why it could not.

        After that `next` says so: the engine hears of a request between two pieces of its work only.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                self._pending = await self._next_update()

    async def next(self, sink: Sink | None = None) -> list[Event]:
        """The events of the next step; an empty list is a step with nothing to show yet.

        While this call waits, `sink` gets a step's events the moment they are there, as long as it is open: all but
        what the answer begins and ends with. Cancelling this call loses nothing. Raises `ServiceError` when the engine
        fails.
        """
        update, self._pending = self._pending, None
        if update is None:
            update = await self._next_update(sink)
        events = self._read(update)
        if update.finish_reason is not None or self._decoder.is_over:
            events += self._end(update.finish_reason or FinishReason.STOP)
        return events

    def _pour(self, sink: Sink, update: SequenceUpdate) -> SequenceUpdate | None:
        """Give the sink what an update brings; what is left of it for whoever waits."""
        if not self._is_admitted or update.finish_reason is not None or not sink.is_open:
            return update
        sink.write(self._read(update))
        return SequenceUpdate(update.request_id) if self._decoder.is_over else None

    def _read(self, update: SequenceUpdate) -> list[Event]:
        events: list[Event] = []
        if self._num_computed_tokens < update.num_computed_tokens:
            self._num_computed_tokens = update.num_computed_tokens
            self._admitted_usage = replace(self._admitted_usage, num_cached_tokens=update.num_cached_tokens)
            self._record.computed(self._admitted_usage, update)
            events.append(PrefillProgress(update.num_computed_tokens, self._admitted_usage.num_prompt_tokens))
        elif update.num_awaited_tokens:
            events.append(PrefillProgress(update.num_awaited_tokens, self._admitted_usage.num_prompt_tokens))
        if update.logprobs or update.prompt_logprobs:
            events += self._scores(update)
        if update.token_ids:
            self._record.generated(len(update.token_ids))
            self._num_output_tokens += len(update.token_ids)
            deltas = self._decoder.feed(update.token_ids)
            self._deltas += deltas
            events += deltas
        return events

    def close(self) -> None:
        """Stop the engine's work on this request and give the model back."""
        if not self.is_finished:
            self.is_finished = True
            self._record.ended(self.usage, ABORT, CLIENT_LEFT)
        self._stream.close()
        self._lease.release()

    async def _next_update(self, sink: Sink | None = None) -> SequenceUpdate:
        try:
            update = await self._stream.next(None if sink is None else partial(self._pour, sink))
        except OmlxError as error:
            if isinstance(error, InvalidRequest) and not error.param:  # the engine knows a grammar, not whose
                error.param = self._grammar_param or None
            self.is_finished = True
            self._record.failed(error, self.usage)
            raise
        if not self._is_admitted:
            self._is_admitted = True
            self._admitted_usage = replace(self._admitted_usage, num_cached_tokens=update.num_cached_tokens)
            self._record.admitted(self._admitted_usage)
        return update

    def _scores(self, update: SequenceUpdate) -> list[Event]:
        read, events = self._text.scores, list[Event]()
        if update.prompt_logprobs:
            events.append(PromptLogprobs(read(update.prompt_logprobs)))
        return [*events, Logprobs(read(update.logprobs))]

    def _end(self, reason: FinishReason) -> list[Event]:
        stop_sequence = self._decoder.stop_sequence
        deltas = self._decoder.finish()
        self._deltas += deltas
        if stop_sequence:
            reason = FinishReason.STOP_SEQUENCE
        elif reason is FinishReason.STOP and any(isinstance(delta, ToolCallDelta) for delta in self._deltas):
            reason = FinishReason.TOOL_CALLS
        self.is_finished = True
        self._record.ended(self.usage, reason.value)
        self._on_answer(self._deltas)
        return [*deltas, Finished(reason, self.usage, stop_sequence)]


class Generator:
    """Starts generations on the pool's models."""

    def __init__(
        self,
        pool: ModelPool[EngineProcess],
        text_of: Callable[[str], ModelText],
        ledger: RequestLedger,
        openings: Openings,
    ) -> None:
        self._pool = pool
        self._text_of = text_of
        self._ledger = ledger
        self._openings = openings
        self._memory = AnswerMemory()
        self._tool_order = ToolOrder()
        self._threads: dict[tuple[str, bool], ThreadPoolExecutor] = {}

    def launched_agent(self, caller: str) -> str:
        """The agent that was last announced with this key, "" where none was."""
        return self._openings.agent_of(caller)

    async def start(
        self, request: GenerationRequest, agent: str = "", patience: float | None = None
    ) -> Generation | GenerationGroup:
        """Render, check the window, load the model, and wait for admission, at most `patience` seconds. `agent` is
        who asks, for the record.

        Raises `RequestError` for what the client can mend and `ServiceError` for the rest; nothing has been
        promised to the client by then.
        """
        if request.num_answers == 1 and not request.more_prompts:
            return await self._start(request, agent, patience)
        starts = [asyncio.ensure_future(self._start(single, agent, patience)) for single in _singles(request)]
        try:
            generations = await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            for started in await asyncio.gather(*starts, return_exceptions=True):
                if isinstance(started, Generation):
                    started.close()
            raise
        return GenerationGroup(generations, request.num_answers)

    async def _start(self, request: GenerationRequest, agent: str, patience: float | None) -> Generation:
        model_id = self._writer(request)
        record = self._ledger.open(request.request_id, agent, model_id)
        try:
            return await self._admit(request, record, patience)
        except BaseException as error:
            if not record.is_ended:
                record.failed(error)
            raise

    async def _admit(self, request: GenerationRequest, record: RequestRecord, patience: float | None) -> Generation:
        text, prompt, place = await self._render(request)
        record.rendered(len(prompt.token_ids))
        self._openings.asked(request, self._pool.entry(request.model).id, prompt)
        grammar = await asyncio.to_thread(text.grammar, request, prompt) if needs_grammar(request) else ""
        lease = await self._pool.lease(request.model, len(prompt.token_ids))
        is_chat = request.prompt is None  # the conversation itself is not to live as long as its answer

        def remember(deltas: Sequence[Delta]) -> None:
            if is_chat:
                self._memory.remember(place, parts_of(deltas))

        try:
            generation = Generation(request, text, prompt, lease, record, grammar, remember)
        except BaseException:
            lease.release()
            raise
        try:
            await generation.admitted(patience)
        except BaseException:
            generation.close()
            raise
        return generation

    def _writer(self, request: GenerationRequest) -> str:
        """The model's own id; the client may know it by an alias. Raises `InvalidRequest` for one that only encodes."""
        entry = self._pool.entry(request.model)
        if entry.kind in ENCODERS:
            raise InvalidRequest(f"{entry.id} is of kind {entry.kind}: it writes no text", "model")
        return entry.id

    async def count_tokens(self, request: GenerationRequest) -> int:
        """The exact length of the prompt this request would render to; loads no weights."""
        self._writer(request)
        _, prompt, _ = await self._render(request, check_window=False)
        return len(prompt.token_ids)

    async def _render(self, request: GenerationRequest, check_window: bool = True) -> tuple[ModelText, Prompt, bytes]:
        """With the place of the answer in the conversation, for what is remembered of it."""
        loop, is_over = asyncio.get_running_loop(), Flag()
        render = partial(self._render_now, request, lambda: not is_over.is_set())
        try:
            text, prompt, place = await loop.run_in_executor(self._threads_of(request), render)
        finally:
            is_over.set()
        if check_window and len(prompt.token_ids) >= text.context_window:
            raise ContextOverflow(len(prompt.token_ids), text.context_window)
        return text, prompt, place

    def _threads_of(self, request: GenerationRequest) -> ThreadPoolExecutor:
        """Those of the request's model: a template that takes long holds up no other model."""
        key = self._pool.entry(request.model).id, request.num_bytes > _LONG_BYTES
        if key not in self._threads:
            self._threads[key] = ThreadPoolExecutor(1 if key[1] else _MAX_RENDERINGS, "prompts")
        return self._threads[key]

    def _render_now(self, request: GenerationRequest, go_on: Callable[[], bool]) -> tuple[ModelText, Prompt, bytes]:
        text = self._text_of(request.model)
        request = replace(request, tools=self._tool_order.steady(request.tools, request.cache_salt))
        recalled = self._memory.recall(request, f"{self._pool.entry(request.model).id}\0{request.cache_salt}")
        return text, text.render(recalled.request, go_on), recalled.place


def _singles(request: GenerationRequest) -> Iterator[GenerationRequest]:
    """A request for each of its answers. A seed gives the answers to a prompt each other draws, and the first of them
    those it would have alone."""
    sampling = request.sampling
    for index, (prompt, answer) in enumerate(
        product((request.prompt, *request.more_prompts), range(request.num_answers))
    ):
        yield replace(
            request,
            request_id=f"{request.request_id}.{index}",
            prompt=prompt,
            more_prompts=(),
            num_answers=1,
            sampling=sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + answer),
        )


def _submit(request: GenerationRequest, text: ModelText, prompt: Prompt, grammar: str) -> Submit:
    room = text.context_window - len(prompt.token_ids)
    return Submit(
        request_id=request.request_id,
        token_ids=list(prompt.token_ids),
        max_tokens=min(request.max_tokens or text.max_tokens or room, room),
        stop_token_ids=list(text.stop_token_ids),
        sampling=request.sampling.over(text.generation_defaults),
        boundaries=list(prompt.boundaries),
        cache_salt=request.cache_salt,
        grammar=grammar,
        without_drafters=list(text.without_drafters),
        logprobs=request.logprobs,
        prompt_logprobs=request.prompt_logprobs,
        thinking=text.thinking(request, prompt),
    )
