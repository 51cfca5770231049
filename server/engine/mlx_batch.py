"""The batch on MLX: mlx-lm's models, a prompt or several short ones computed at a time, all rows decoded together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, replace

import mlx.core as mx

from ..cache.blocks import BLOCK_TOKENS
from ..cache.codec import BlockPayload, CacheCodec, LayerCache
from ..cache.prefix_cache import PrefixCache
from ..errors import InvalidRequest
from .batch import BatchInfo, Logprobs, MemoryUse, PrefixReport
from .decode_layout import DecodeLayout, Forward
from .faults import contained
from .grammar import GrammarCompiler, RowGrammar
from .last_row import LastRow
from .messages import Batching, DraftStats, Submit, TokenLogprob
from .mlx_memory import give_back
from .ngram_drafter import NgramDrafter
from .pace import Pace
from .prompt_rows import PromptRows
from .prompt_scores import score
from .prompt_work import PromptWork
from .ranks.common_match import common_match
from .ranks.group import Alone, Ranks
from .recorder import Recorder
from .row import Row, check_tokens
from .sampling import RowSampler, choose
from .sequence import checkpoints
from .speculation import Draft, Drafter, Speculation
from .thinking import RowThinking

_SAVING_SECONDS = 1.5
"""For the prefixes that are only in memory when the engine is asked to end; the server waits a little longer."""
_MAX_STEP_TOKENS = 32
"""Rows times tokens fed in one step: more would cost more than drafts can bring."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A step that is being computed: what `rows` will go on with, shape [rows]."""

    rows: list[Row]
    tokens: mx.array


class MlxBatch:
    """Implements `BatchEngine`. `vocabulary` bounds the token ids a request may bring.

    With `runs_ahead` the next step is under way before this one's tokens are read, so that the device never
    waits for Python. A row that turns out to have ended has then computed one token too many, which is dropped.
    It pays where computing leaves this thread free: on a GPU.
    """

    def __init__(
        self,
        model: Forward,
        info: BatchInfo,
        layout: DecodeLayout,
        codec: CacheCodec,
        prefix_cache: PrefixCache[BlockPayload],
        vocabulary: int,
        grammars: GrammarCompiler | None = None,
        clock: Callable[[], float] = time.perf_counter,
        runs_ahead: bool = False,
        drafters: Sequence[Drafter] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._model = model
        self._info = info
        self._layout = layout
        self._last_row = LastRow(model)
        self._prompt_rows: PromptRows | None = None
        self._codec = codec
        self._prefix_cache = prefix_cache
        self._vocabulary = vocabulary
        self._grammars = grammars
        self._clock = clock
        self._ranks = ranks or Alone()
        self._speculation = Speculation([NgramDrafter()] if drafters is None else drafters)
        self._rows: dict[str, Row] = {}
        self._decoding: list[Row] = []
        """In the layout's order."""
        self._may_run_ahead = runs_ahead
        self._flight: _Flight | None = None
        self._work = PromptWork(clock)
        self._saving = Pace(lambda: prefix_cache.save_one(may_wait=False), clock)

    def scratch(self, *drafters: Drafter) -> MlxBatch:
        """One that computes with the same model, and of which nothing is left here: no prefix, no count. It has more
        `drafters`. Only for while this one has no rows, and it must have none in the end."""
        scratch = copy(self)
        scratch._prefix_cache = PrefixCache("scratch", 0)
        scratch._speculation = self._speculation.anew(*drafters)
        scratch._rows, scratch._decoding = {}, []
        scratch._work = PromptWork(self._clock)
        return scratch

    @property
    def info(self) -> BatchInfo:
        return self._info

    @property
    def batching(self) -> Batching:
        return self._layout.batching

    def match(self, request: Submit) -> int:
        if request.prompt_logprobs:
            return 0
        return self._prefix_cache.peek(request.token_ids, request.cache_salt)

    def fetch(self, request: Submit) -> Iterator[bool]:
        return self._prefix_cache.fetch(
            request.token_ids[:1] if request.prompt_logprobs else request.token_ids, request.cache_salt
        )

    def open(self, request: Submit) -> int:
        with self._contained(request.request_id):
            check_tokens(request, self._vocabulary)
            sampler = RowSampler.create(request.sampling, request.token_ids, secrets.randbits(63))
            sampler.grammar = self._grammar(request)
            sampler.thinking = RowThinking(request.thinking) if request.thinking else None
            token_ids = request.token_ids[:1] if request.prompt_logprobs else request.token_ids
            match = common_match(self._prefix_cache, self._ranks, token_ids, request.cache_salt)
            caches = self._codec.restore(match.payloads, match.num_tokens, len(request.token_ids))
        row = Row(request, list(request.token_ids), match.num_tokens, sampler, caches)
        row.prefix = PrefixReport(match.num_lower_tokens, match.miss.value, match.miss_token)
        if request.prompt_logprobs:
            row.prompt_logprobs = [TokenLogprob(request.token_ids[0], None)]
        self._rows[request.request_id] = row
        return match.num_tokens

    def prefix(self, request_id: str) -> PrefixReport:
        return self._rows[request_id].prefix

    def listen(self, go_on: Callable[[], bool]) -> None:
        self._work.go_on = go_on

    def prefill(self, request_id: str, count: int) -> list[int]:
        self._saving.offer()
        row = self._rows[request_id]
        num_prompt = len(row.request.token_ids)
        stop = row.num_computed + count
        assert row.num_computed < stop <= num_prompt
        with self._contained(request_id):
            if stop < num_prompt:
                self._compute(row, stop)
                if row.caches and (stop % BLOCK_TOKENS == 0 or self._info.checkpointed):
                    self._remember(row, lambda: row.caches)
                return []
            if row.request.prompt_logprobs:
                logits = score(self._model, row, stop, self._work)
            else:
                logits = self._last_row.logits(row.token_ids[row.num_computed :], row.caches)
                self._work.finish([row], count)
            if not row.caches:
                return []
            self._begin(row, logits, self._read(self._next(logits, [row.sampler])))
        return self._join(row)

    @property
    def takes_prompts_together(self) -> bool:
        is_plain = self._last_row.in_one_pass and not isinstance(self._model, Recorder)
        return is_plain and self._layout.batching.name == "batched"

    def prefill_together(self, counts: Mapping[str, int]) -> dict[str, list[int]]:
        if any(self._rows[key].request.prompt_logprobs for key in counts):
            return {key: self.prefill(key, count) for key, count in counts.items()}
        self._saving.offer()
        rows = [self._rows[key] for key in counts]
        assert all(row.num_computed + counts[row.key] == len(row.token_ids) for row in rows)
        if self._prompt_rows is None:
            self._prompt_rows = PromptRows(self._model, self._last_row)
        pieces = [row.token_ids[row.num_computed :] for row in rows]
        with self._contained(*counts):
            logits = self._prompt_rows.logits(pieces, [row.caches for row in rows])
            if not self._work.finish(rows, sum(counts.values())):
                return {key: [] for key in counts}
            chosen = self._read(self._next(logits, [row.sampler for row in rows]))
            for index, (row, token_id) in enumerate(zip(rows, chosen, strict=True)):
                self._begin(row, logits[index : index + 1], [token_id])
        return {row.key: self._join(row) for row in rows}

    @contextmanager
    def _contained(self, *keys: str) -> Iterator[None]:
        """As in `faults`; where something goes wrong, nothing is kept of these rows."""
        try:
            with contained(keys) if self._ranks.size == 1 else nullcontext():
                yield
        except BaseException:
            for row in filter(None, map(self._rows.get, keys)):
                row.caches = []
            mx.eval(mx.zeros(1) + 1)  # a device that is lost fails at this too, which ends the engine
            raise

    def _begin(self, row: Row, logits: mx.array, token_ids: list[int]) -> None:
        """The row's prompt is computed, and its first token chosen from the logits."""
        row.note(logits, token_ids)
        row.num_computed = len(row.request.token_ids)
        row.append(token_ids)
        self._remember(row, lambda: row.caches)

    def _join(self, row: Row) -> list[int]:
        """It decodes from now on; its news."""
        self._speculation.join(row.key, row.token_ids, row.request.without_drafters)
        if isinstance(self._model, Recorder):
            self._speculation.observe(row.key, self._model.hidden)
        self._layout.join(row.caches)
        row.caches = []
        self._decoding.append(row)
        return row.news(1)

    def decode(self, drafts: Mapping[str, Draft] | None = None) -> dict[str, list[int]]:
        """As in `BatchEngine`; `drafts` are what `draft` said, here or on another rank."""
        self._saving.offer()  # where steps overlap, the device is at the next one
        started = self._clock()
        drafts = self.draft() if drafts is None else drafts
        # What is too much must not count, as it does not where a row may be fed drafts.
        flies = (
            self._may_run_ahead and self._layout.overruns and not drafts and all(row.is_free for row in self._decoding)
        )
        if self._flight is None and not flies:
            return self._decode_now(drafts, started)
        restarts = self._flight is None
        flight = self._flight or self._launch(None)
        self._flight = self._launch(flight) if flies else None
        news = self._land(flight)
        seconds = self._clock() - started
        if restarts:
            self._speculation.measure_restart(len(self._decoding), seconds)
        elif flies:  # the last of steps that overlap is no measure: it had the one before to itself
            self._speculation.measure(len(self._decoding), seconds, {}, {})
        return news

    def _decode_now(self, drafts: Mapping[str, Draft], started: float) -> dict[str, list[int]]:
        """A step of known tokens, from its beginning to its end."""
        rows = self._decoding
        guesses = [drafts[row.key].token_ids if row.key in drafts else [] for row in rows]
        fed = [row.feed(guess) for row, guess in zip(rows, guesses, strict=True)]
        logits = self._layout.forward(fed)
        hidden = self._layout.aligned(self._model.hidden) if isinstance(self._model, Recorder) else None
        chosen = self._choose(logits, fed)
        accepted = [row.take(guess, tokens) for row, guess, tokens in zip(rows, guesses, chosen, strict=True)]
        for index, (row, tokens, count) in enumerate(zip(rows, chosen, accepted, strict=True)):
            row.note(logits[index, :count], tokens[:count])
        self._layout.accept(accepted)
        brought = {row.key: count for row, count in zip(rows, accepted, strict=True)}
        if hidden is not None:
            for index, count in enumerate(accepted):
                self._speculation.observe(rows[index].key, hidden[index : index + 1, :count])
        self._speculation.measure(len(rows), self._clock() - started, drafts, brought)
        return {row.key: row.news(count) for row, count in zip(rows, accepted, strict=True)}

    def logprobs(self, request_id: str) -> Logprobs:
        row = self._rows[request_id]
        prompt, row.prompt_logprobs = row.prompt_logprobs, []
        return Logprobs(row.logprobs, prompt)

    def release(self, request_id: str) -> None:
        row = self._rows.pop(request_id, None)
        if row is None:
            return
        if row not in self._decoding:
            if row.caches:
                self._remember(row, lambda: row.caches, ended=True)
            if isinstance(self._model, Recorder) and not self._work.is_under_way:  # its states are of that otherwise
                self._model.forget()
            return
        self._speculation.leave(row.key)
        index = self._decoding.index(row)
        with self._model.aside() if isinstance(self._model, Recorder) else nullcontext():  # a prompt may wait for them
            self._remember(row, lambda: self._layout.extract(index), ended=True)
        self._layout.leave(index)
        del self._decoding[index]
        if not self._decoding:
            self._flight = None

    def bound_prefixes(self, num_bytes: int) -> None:
        self._prefix_cache.bound(num_bytes)

    def memory(self) -> MemoryUse:
        cache = self._prefix_cache
        counts = cache.max_bytes, cache.num_evicted, cache.lower_written_bytes
        return MemoryUse(cache.nbytes, mx.get_active_memory(), cache.trouble, cache.num_damaged, [], *counts)

    @property
    def drafts(self) -> list[DraftStats]:
        return self._speculation.stats

    def idle(self) -> bool:
        return self._layout.settle() or self._prefix_cache.save_one()

    def rest(self) -> None:
        give_back()

    def check(self) -> None:
        assert not any((self._rows, self._decoding, self._flight)), f"rows or a step of nobody: {[*self._rows]}"
        self._layout.check(0)
        self._speculation.check()
        self._prefix_cache.check()

    def close(self) -> None:
        deadline = time.monotonic() + _SAVING_SECONDS
        self._prefix_cache.close(lambda: time.monotonic() < deadline)

    def _grammar(self, request: Submit) -> RowGrammar | None:
        if not request.grammar:
            return None
        if self._grammars is None:
            raise InvalidRequest("this model's tokenizer cannot be held to a grammar; ask without a format")
        return self._grammars.row(request.grammar, request.stop_token_ids, request.cache_salt)

    def _next(self, logits: mx.array, samplers: list[RowSampler]) -> mx.array:
        """What each row goes on with: rank 0's choice, yet to be computed."""
        return self._ranks.share(choose(logits, samplers, may_wait=not self._may_run_ahead))

    def _read(self, tokens: mx.array) -> list[int]:
        """The tokens, waited for."""
        return tokens.tolist()  # pyright: ignore[reportReturnType]

    def _launch(self, before: _Flight | None) -> _Flight:
        """Begin a step of all rows, those of `before` on the tokens it will bring."""
        rows = list(self._decoding)
        if before is not None and before.rows == rows:
            inputs = before.tokens
        else:
            flying = {id(row): index for index, row in enumerate(before.rows)} if before else {}
            known = mx.array([row.token_ids[-1] for row in rows])
            source = known if before is None else mx.concatenate([before.tokens.astype(known.dtype), known])
            inputs = source[mx.array([flying.get(id(row), len(flying) + index) for index, row in enumerate(rows)])]
        logits = self._layout.forward(inputs[:, None])
        self._layout.accept([1] * len(rows))
        tokens = self._next(logits[:, 0], [row.sampler for row in rows])
        mx.async_eval(tokens)
        return _Flight(rows, tokens)

    def _land(self, flight: _Flight) -> dict[str, list[int]]:
        """Wait for a step's tokens. Rows that have been released since get none."""
        news: dict[str, list[int]] = {}
        for row, token_id in zip(flight.rows, self._read(flight.tokens), strict=True):
            if self._rows.get(row.key) is row:
                row.append([token_id])
                row.num_computed += 1
                news[row.key] = row.news(1)
        return news

    def draft(self) -> dict[str, Draft]:
        """A guess for each row that has one and may take it."""
        room = _MAX_STEP_TOKENS // max(1, len(self._decoding)) - 1
        limits: dict[str, int] = {}
        for index, row in enumerate(self._decoding):
            left = len(row.request.token_ids) + row.request.max_tokens - len(row.token_ids) - 1
            if row.sampler.penalties is None and self._layout.may_draft(index):
                limits[row.key] = min(room, left, row.sampler.num_free)
        drafts = self._speculation.draft(limits, len(self._decoding)) if limits else {}
        drafted = [(row, drafts[row.key]) for row in self._decoding if row.key in drafts]
        held = {row.key: replace(draft, token_ids=row.sampler.expect(draft.token_ids)) for row, draft in drafted}
        return {key: draft for key, draft in held.items() if draft.token_ids}

    def _choose(self, logits: mx.array, fed: list[list[int]]) -> list[list[int]]:
        """The model's own choice after every token each row was fed."""
        if logits.shape[1] == 1:
            choices = self._read(self._next(logits[:, 0], [row.sampler for row in self._decoding]))
            return [[token_id] for token_id in choices]
        width = logits.shape[1]
        places = [index * width + place for index, tokens in enumerate(fed) for place in range(len(tokens))]
        samplers = [row.sampler for row, tokens in zip(self._decoding, fed, strict=True) for _ in tokens]
        choices = iter(self._read(self._next(logits.reshape(-1, logits.shape[-1])[mx.array(places)], samplers)))
        return [[next(choices) for _ in tokens] for tokens in fed]

    def _compute(self, row: Row, stop: int) -> None:
        """Bring the row's caches up to `stop`. Nobody reads the logits, so the head is never run."""
        if row.request.prompt_logprobs:
            score(self._model, row, stop, self._work)
            return
        self._model(mx.array([row.token_ids[row.num_computed : stop]]), cache=row.caches)
        self._work.finish([row], stop - row.num_computed)
        row.num_computed = stop

    def _remember(self, row: Row, caches: Callable[[], list[LayerCache]], ended: bool = False) -> None:
        """Keep what the row has computed for later requests. `caches` finds it, where there is any news.

        States that exist at one position only are dear, so they are taken where the next request is
        likely to part from this one.
        """
        resumable = ended or row.num_computed in checkpoints(row.request, self._info.checkpoint_tokens)
        token_ids, salt = row.token_ids[: row.num_computed], row.request.cache_salt
        blocks = [] if row.is_spoilt else self._prefix_cache.missing(token_ids, salt, resumable)
        if blocks:
            payloads = self._codec.cut(caches(), blocks, snapshot=resumable)
            self._prefix_cache.insert(token_ids, blocks, payloads, salt)
