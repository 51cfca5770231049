"""Drawing the next token of every row at once, each by its own parameters and its own random numbers."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from ..requests import SamplingParams
from .batch import END_OF_GRAMMAR, GRAMMAR_FAILED, NOT_A_NUMBER, ROW_FAILED
from .faults import is_fault
from .grammar import RowGrammar
from .thinking import RowThinking

_SORTED_TOKENS = 4096, 256
"""Nearly all nuclei fit in so many of the likeliest tokens, most in so many."""


@dataclass(slots=True)
class RowSampler:
    """One row's parameters, with unset ones at their neutral value, and the tokens they look back on.

    The n-th draw depends on `seed` and n alone, so the same request draws the same numbers alone and in
    any batch.
    """

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    num_drawn: int = 0
    penalties: _Penalties | None = None
    grammar: RowGrammar | None = None
    thinking: RowThinking | None = None
    failure: BaseException | None = None
    """What went wrong first in the row's own part of a choice. What is chosen for it after that counts for nothing."""

    @classmethod
    def create(cls, params: SamplingParams, prompt: Sequence[int], entropy: int) -> RowSampler:
        """`entropy` seeds the row where the request does not."""
        return cls(
            temperature=params.temperature if params.temperature is not None else 1.0,
            top_p=params.top_p if params.top_p is not None else 1.0,
            top_k=params.top_k or 0,
            min_p=params.min_p or 0.0,
            seed=params.seed if params.seed is not None else entropy,
            penalties=_Penalties.create(params, prompt),
        )

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    @property
    def truncates(self) -> bool:
        return self.top_p < 1 or self.top_k > 0

    @property
    def forced(self) -> int | None:
        """The one token that may come next, where there is one. A grammar that has no place for it now, as inside a
        character, puts it off."""
        token_id: int | None = None
        if self.thinking is not None:
            with self.contained():
                token_id = self.thinking.forced
                if token_id is not None and self.grammar is not None and not self.grammar.allowed()[token_id]:
                    token_id = None
        return token_id

    @property
    def num_free(self) -> int:
        """See `RowThinking.num_free`."""
        return self.thinking.num_free if self.thinking is not None else sys.maxsize

    def draw(self) -> float:
        """The next random number in [0, 1)."""
        key = f"{self.seed}:{self.num_drawn}".encode()
        self.num_drawn += 1
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") / 2**64

    def take_back(self, count: int) -> None:
        """The last `count` choices were not used; their numbers will be drawn again."""
        self.num_drawn -= 0 if self.is_greedy else count

    @property
    def mark(self) -> int | None:
        """What stands behind the row's new tokens, where it is to end there."""
        mark = None
        if self.grammar is not None:
            with self.contained():
                mark = GRAMMAR_FAILED if self.grammar.error else END_OF_GRAMMAR if self.grammar.is_complete else None
        return mark if self.failure is None else ROW_FAILED

    def observe(self, token_id: int) -> None:
        """The row generated this token."""
        if self.penalties is None and self.grammar is None and self.thinking is None:
            return
        with self.contained():
            if self.penalties is not None:
                self.penalties.observe(token_id)
            if self.grammar is not None:
                self.grammar.consume(token_id)
            if self.thinking is not None:
                self.thinking.observe(token_id)

    def expect(self, draft: list[int]) -> list[int]:
        """As much of a guess at the next tokens as may come."""
        if self.grammar is None:
            return draft
        expected: list[int] = []
        with self.contained():
            expected += self.grammar.expect(draft)
        return expected

    def penalized(self, logits: mx.array) -> mx.array:
        """The row's logits, shape [vocabulary], by its penalties."""
        if self.penalties is not None:
            with self.contained():
                logits = self.penalties.apply(logits)
        return logits

    @contextmanager
    def contained(self) -> Iterator[None]:
        """Within, nothing but the row's own is touched: what goes wrong is its `failure`, and the others go on."""
        try:
            yield
        except BaseException as error:
            if not is_fault(error):
                raise
            self.failure = error if self.failure is None else self.failure


@dataclass(slots=True)
class _Penalties:
    """What is added to or taken from a row's logits. Repetition looks at the prompt and the answer,
    presence and frequency at the answer only, as OpenAI's do."""

    repetition: float
    presence: float
    frequency: float
    bias: tuple[tuple[int, float], ...]
    seen: set[int]
    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def create(cls, params: SamplingParams, prompt: Sequence[int]) -> _Penalties | None:
        repetition = params.repetition_penalty or 1.0
        presence, frequency = params.presence_penalty or 0.0, params.frequency_penalty or 0.0
        if repetition == 1 and presence == 0 and frequency == 0 and not params.logit_bias:
            return None
        seen = set(prompt) if repetition != 1 else set()
        return cls(repetition, presence, frequency, params.logit_bias or (), seen)

    def observe(self, token_id: int) -> None:
        self.counts[token_id] = self.counts.get(token_id, 0) + 1
        self.seen.add(token_id)

    def apply(self, logits: mx.array) -> mx.array:
        """The adjusted logits of one row, shape [vocabulary]."""
        if self.repetition != 1 and self.seen:
            index = mx.array(sorted(self.seen))
            old = logits[index]
            scaled = mx.where(old > 0, old / self.repetition, old * self.repetition)
            logits = logits.at[index].add(scaled - old)
        if self.counts and (self.presence or self.frequency):
            taken = [self.presence + self.frequency * count for count in self.counts.values()]
            logits = logits.at[mx.array(list(self.counts))].add(-mx.array(taken, logits.dtype))
        if self.bias:
            index, added = zip(*self.bias, strict=True)
            logits = logits.at[mx.array(index)].add(mx.array(added, logits.dtype))
        return logits


def sample(logits: mx.array, rows: Sequence[RowSampler]) -> list[int]:
    """The next token of each row from logits of shape [rows, vocabulary]. Counts one draw a row.

    A row's sampler may stand for several rows of logits, the choices at its next places.
    """
    return choose(logits, rows, may_wait=True).tolist()  # pyright: ignore[reportReturnType]


def choose(logits: mx.array, rows: Sequence[RowSampler], may_wait: bool = False) -> mx.array:
    """`sample`'s tokens as an array yet to be computed, `NOT_A_NUMBER` where a row's logits overflow or are none. Only
    a row's grammar waits for the logits, and with `may_wait` a row that truncates, where looking saves work."""
    given = logits
    if any(row.penalties for row in rows):
        logits = mx.stack([row.penalized(logits[i]) for i, row in enumerate(rows)])
    if any(row.grammar for row in rows):
        logits = _constrain(logits, rows)
    forced = [row.forced for row in rows]
    if any(token_id is not None for token_id in forced):
        logits = _force(logits, forced)
    tokens = mx.argmax(logits, axis=-1).astype(mx.int32)
    if not all(row.is_greedy for row in rows):
        greedy = mx.array([row.is_greedy for row in rows])
        tokens = mx.where(greedy, tokens, _draw(logits.astype(mx.float32), rows, may_wait))
    chosen = mx.take_along_axis(given, mx.maximum(tokens, 0)[:, None], axis=-1)[:, 0]
    return mx.where(chosen < mx.inf, tokens, NOT_A_NUMBER)


def _constrain(logits: mx.array, rows: Sequence[RowSampler]) -> mx.array:
    """The logits with what a row's grammar forbids at minus infinity, found while the model computes them."""
    mx.async_eval(logits)
    allowed: Any = np.ones(logits.shape, np.bool_)  # mx takes numpy arrays, its stubs do not say so
    places: dict[int, Iterator[Any]] = {}
    for index, row in enumerate(rows):
        if row.grammar is not None:
            with row.contained():
                allowed[index] = next(places.setdefault(id(row), row.grammar.masks()))
    for row in rows:
        if (masks := places.pop(id(row), None)) is not None:
            with row.contained():
                next(masks, None)
    return mx.where(mx.array(allowed), logits, mx.array(-mx.inf, logits.dtype))


def _force(logits: mx.array, forced: Sequence[int | None]) -> mx.array:
    """The logits with nothing but its forced token left to a row that has one."""
    free = mx.array([[token_id is None] for token_id in forced])
    wanted = mx.array([[-1 if token_id is None else token_id] for token_id in forced])
    only = mx.where(mx.arange(logits.shape[-1]) == wanted, 0.0, -mx.inf).astype(logits.dtype)
    return mx.where(free, logits, only)


def _draw(logits: mx.array, rows: Sequence[RowSampler], may_wait: bool) -> mx.array:
    """One token a row by inverting the cumulative distribution of what the row's parameters keep, `NOT_A_NUMBER` where
    there is none.

    Temperature comes first, then top-k, top-p and min-p look at the tempered probabilities.
    """
    temperature = mx.array([[row.temperature or 1.0] for row in rows])
    probabilities = mx.softmax(logits / temperature, axis=-1)
    floor = mx.max(probabilities, axis=-1, keepdims=True) * mx.array([[row.min_p] for row in rows])
    if any(row.truncates for row in rows):
        floor = mx.maximum(floor, _threshold(probabilities, rows, may_wait))
    mass = mx.cumsum(mx.where(probabilities >= floor, probabilities, 0), axis=-1)
    point = mx.array([[row.draw()] for row in rows]) * mass[:, -1:]
    # Rounding may put the point at the very end of the mass: the last token with any mass is meant then.
    last = mx.sum(mass < mass[:, -1:], axis=-1)
    drawn = mx.minimum(mx.sum(mass <= point, axis=-1), last).astype(mx.int32)
    return mx.where(mass[:, -1] > 0, drawn, NOT_A_NUMBER)  # no probability that is no number is kept


def _threshold(probabilities: mx.array, rows: Sequence[RowSampler], may_wait: bool) -> mx.array:
    """The least probability each row's top-k and top-p keep, shape [rows, 1].

    A few of the likeliest tokens are mostly enough, but whether they are has to be waited for. A device that must
    not be kept waiting sorts them all.
    """
    vocabulary = probabilities.shape[-1]
    top_p = mx.array([[row.top_p if row.truncates else 0.0] for row in rows])
    top_k = mx.array([[row.top_k or vocabulary] for row in rows])
    head = probabilities
    for enough in _SORTED_TOKENS if may_wait else ():
        num_sorted, num_known = max(enough, *(row.top_k for row in rows)), head.shape[-1]
        if num_sorted >= num_known:
            continue
        likeliest = mx.partition(head, kth=num_known - num_sorted, axis=-1)[:, num_known - num_sorted :]
        # With top-p alone the nucleus may reach past the sorted head; top-k never does.
        short = (mx.sum(likeliest, axis=-1, keepdims=True) < top_p) & (top_k > num_sorted)
        if mx.any(short).item():
            break
        head = likeliest
    head = -mx.sort(-head, axis=-1)
    head = mx.where(mx.arange(head.shape[-1]) < top_k, head, 0)
    total = mx.where(top_k < vocabulary, mx.sum(head, axis=-1, keepdims=True), 1.0)
    before = mx.cumsum(head, axis=-1) - head
    kept = ((before < top_p * total) & (head > 0)) | (mx.arange(head.shape[-1]) == 0)
    least = mx.min(mx.where(kept, head, 1.0), axis=-1, keepdims=True)
    unlimited = mx.array([[not row.truncates] for row in rows])
    return mx.where(unlimited, 0.0, least)
