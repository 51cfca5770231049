"""Whether memory has room for a sequence, by what the model's footprint says. Bytes; nothing is measured."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..errors import ContextOverflow
from ..models.footprint import EXPECTED_ANSWER_TOKENS, Footprint
from .messages import Submit
from .sequence import Sequence

_SHARED_SLOTS = 3
"""A slot is up to half as long again as its row, and up to half of a group's slots are idle, more after some left."""


class MemoryRoom:
    """Of `limit_bytes` the weights have theirs, then the sequences that run; cached prefixes may have what is left.

    Without a footprint there is room for everything. What a sequence holds while it is decoded depends on how, which
    the name of the `batching` tells: where rows are batched, one of up to `large_row_tokens` shares slots with others;
    where they are padded, or may be, all are as long as the longest.
    """

    def __init__(
        self,
        footprint: Footprint | None = None,
        limit_bytes: int = 0,
        large_row_tokens: int = 0,
        batching: Callable[[], str] = lambda: "batched",
    ) -> None:
        self._footprint = footprint
        self._large_row_tokens = large_row_tokens
        self._batching = batching
        self.limit_bytes = limit_bytes

    def check(self, request: Submit) -> None:
        """Raises `ContextOverflow` for a prompt that does not fit with a token of an answer, even where nothing else
        runs."""
        footprint, num_tokens = self._footprint, len(request.token_ids)
        if footprint is not None and footprint.total_bytes(num_tokens + 1) > self.limit_bytes:
            raise ContextOverflow(num_tokens, footprint.window_within(self.limit_bytes, num_tokens))

    def fits(self, sequence: Sequence, running: Collection[Sequence]) -> bool:
        """Whether the sequence can be computed beside those that run, to the length that is expected of each. One that
        is alone always may."""
        return not running or self.left([*running, sequence]) >= 0

    def left(self, running: Collection[Sequence]) -> int:
        """What the sequences that run leave, at the length that is expected of each."""
        return self._left({sequence: max(_expected(sequence), _length(sequence)) for sequence in running})

    def claimed(self, running: Collection[Sequence], waiting: Collection[Sequence]) -> int:
        """What the weights take, and the sequences that run at the length that is expected of each, or the longest that
        waits, where that alone takes more."""
        longest = max(waiting, key=_expected, default=None)
        left = min(self.left(running), self.left([longest] if longest else []))
        return self.limit_bytes - left if self._footprint is not None else 0

    def first_to_end(self, running: Collection[Sequence]) -> Sequence | None:
        """Where the sequences have outgrown what was expected and no longer fit: the one that came last."""
        if not running or self._left({sequence: _length(sequence) for sequence in running}) >= 0:
            return None
        last = max(running, key=lambda sequence: sequence.arrived)
        return last if len(running) > 1 or not self._holds_alone(last) else None

    def _holds_alone(self, sequence: Sequence) -> bool:
        """One that is alone shares no slots."""
        footprint = self._footprint
        if footprint is None:
            return True
        taken = footprint.held_bytes(_length(sequence)) + footprint.transient_bytes(sequence.num_prompt_tokens)
        return footprint.weight_bytes + taken <= self.limit_bytes

    def _left(self, lengths: dict[Sequence, int]) -> int:
        if self._footprint is None:
            return 1 << 62
        batching = self._batching()
        if batching in ("padded", "undecided"):
            held = len(lengths) * self._footprint.held_bytes(max(lengths.values(), default=0))
        elif batching == "serial":
            held = sum(map(self._footprint.held_bytes, lengths.values()))
        else:
            held = sum(self._most(self._footprint, _length(row), length) for row, length in lengths.items())
        # One prompt at a time, or several short ones, which look back on less.
        work = max((self._footprint.transient_bytes(sequence.num_prompt_tokens) for sequence in lengths), default=0)
        return self.limit_bytes - self._footprint.weight_bytes - held - work

    def _most(self, footprint: Footprint, now: int, then: int) -> int:
        """What a row of `now` tokens takes at the most until it has `then`: one that is large shares no slots."""
        held = footprint.held_bytes(then)
        if now > self._large_row_tokens:
            return held
        return max(held, _SHARED_SLOTS * footprint.held_bytes(min(then, self._large_row_tokens)))


def _expected(sequence: Sequence) -> int:
    return sequence.num_prompt_tokens + min(sequence.request.max_tokens, EXPECTED_ANSWER_TOKENS)


def _length(sequence: Sequence) -> int:
    return sequence.num_prompt_tokens + sequence.num_output_tokens
