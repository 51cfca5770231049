"""The steps that a group takes before it says that it is ready, so that none that it serves is the first of its kind.

In a first step kernels are compiled, which on a GPU takes up to a minute, and weights come into memory. Nobody can tell
that from a rank that has stopped; so it is over with before anybody waits, and the steps' times are known. Of the kinds
that `leader` tells apart, contexts beyond 4,096 tokens are left, and several prompts in a longer pass than the pieces
here: to compute them would take long. Smaller things may be new in a step even so: more rows, scores, grammars.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...requests import SamplingParams
from ..batch import BatchEngine, BatchInfo
from ..messages import Submit
from ..scheduler import SchedulerLimits
from .progress import PIECE_SECONDS

_GREEDY, _DRAWN = SamplingParams(temperature=0), SamplingParams(temperature=1.0, top_p=0.9, top_k=20)
_NUM_ROWS = 5
_MOST_GUESSED = 16
_NAME = "warm-up"


class Guesses:
    """Implements `Drafter`: as many tokens as may be, of which none is hoped to be right."""

    name = _NAME

    def join(self, key: str, token_ids: Sequence[int]) -> None: ...

    def observe(self, key: str, hidden: Any) -> None: ...

    def draft(self, limits: Mapping[str, int]) -> dict[str, list[int]]:
        return {key: [0] * limit for key, limit in limits.items()}

    def leave(self, key: str) -> None: ...

    def check(self) -> None: ...


def warm_up(batch: BatchEngine, clock: Callable[[], float] = time.perf_counter) -> None:
    """Compute prompts of all lengths up to the longest piece that the scheduler would choose here, and decode one row,
    with drafts and without, and several, as far as memory holds them. `batch` is empty before and after; `Guesses`
    draft for it."""
    info, piece = batch.info, SchedulerLimits().grid
    for sampling in (_GREEDY, _DRAWN):  # the first makes all ready
        seconds = _answer(batch, piece, sampling, clock)
    _answer_short_ones(batch, piece, together=_fits(info, piece, _NUM_ROWS))
    while 2 * piece <= info.max_chunk and 2 * seconds <= PIECE_SECONDS and _fits(info, 2 * piece):
        piece *= 2
        seconds = _answer(batch, piece, _GREEDY, clock)


def _fits(info: BatchInfo, num_tokens: int, num_rows: int = 1) -> bool:
    """Whether memory holds so many rows of so many tokens, and the few that are answered."""
    return info.footprint is None or info.footprint.total_bytes(num_tokens + 8, num_rows) <= info.memory_bytes


def _answer(batch: BatchEngine, piece: int, sampling: SamplingParams, clock: Callable[[], float]) -> float:
    """Two steps, the first with the model's own draft, on a prompt of such a piece and a token; what the piece took in
    seconds."""
    batch.open(_request(_NAME, piece + 1, sampling, 1, [_NAME]))
    started = clock()
    batch.prefill(_NAME, piece)
    seconds = clock() - started
    batch.prefill(_NAME, 1)
    batch.decode()
    batch.decode()
    batch.release(_NAME)
    return seconds


def _answer_short_ones(batch: BatchEngine, most: int, together: bool) -> None:
    """A step on prompts of all lengths below that: first on one row, with as many guesses; then, if `together`, on one
    row more each time, and on two that begin at once."""
    names: list[str] = []
    for power in range(most.bit_length() - 1):
        name, length = f"{_NAME} {power}", 1 << power
        num_guessed = length if length <= _MOST_GUESSED else 0
        batch.open(_request(name, length, _DRAWN if power % 2 else _GREEDY, num_guessed, ["mtp"]))
        batch.prefill(name, length)
        batch.decode()
        if num_guessed or not together:
            batch.release(name)
        else:
            names.append(name)
    if together and batch.takes_prompts_together:
        pair = {f"{_NAME} {length} at once": length for length in (2, 3)}
        for name, length in pair.items():
            batch.open(_request(name, length, _GREEDY))
        batch.prefill_together(pair)
        batch.decode()
        names += pair
    for name in names:
        batch.release(name)


def _request(
    name: str, num_tokens: int, sampling: SamplingParams, num_guessed: int = 0, skipped: Sequence[str] = ()
) -> Submit:
    """One in whose first step so many tokens are guessed, where the drafters that are `skipped` would guess fewer."""
    token_ids = [at * at % 31 for at in range(num_tokens)]
    return Submit(name, token_ids, num_guessed + 2, sampling=sampling, without_drafters=[*skipped])
