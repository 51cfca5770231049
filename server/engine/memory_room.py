"""Whether memory has room for a sequence, by what the model's footprint says. Bytes; nothing is measured."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import ContextOverflow
from ..models.footprint import Footprint
from .messages import Submit
from .sequence import Sequence

_EXPECTED_TOKENS = 4096
"""Of an answer, for which there must be room before its prompt is begun. Agents allow far more than they take."""


class MemoryRoom:
    """Of `limit_bytes` the weights have theirs, then the sequences that run; cached prefixes may have what is left.

    Without a footprint there is room for everything.
    """

    def __init__(self, footprint: Footprint | None = None, limit_bytes: int = 0) -> None:
        self._footprint = footprint
        self.limit_bytes = limit_bytes

    def check(self, request: Submit) -> None:
        """Raises `ContextOverflow` for a prompt that does not fit even where nothing else runs."""
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

    def first_to_end(self, running: Collection[Sequence]) -> Sequence | None:
        """Where the sequences have outgrown what was expected and no longer fit: the one that came last."""
        if len(running) < 2 or self._left({sequence: _length(sequence) for sequence in running}) >= 0:
            return None
        return max(running, key=lambda sequence: sequence.arrived)

    def _left(self, lengths: dict[Sequence, int]) -> int:
        if self._footprint is None:
            return 1 << 62
        held = sum(map(self._footprint.held_bytes, lengths.values()))
        # One prompt at a time, or several short ones, which look back on less.
        work = max((self._footprint.transient_bytes(sequence.num_prompt_tokens) for sequence in lengths), default=0)
        return self.limit_bytes - self._footprint.weight_bytes - held - work


def _expected(sequence: Sequence) -> int:
    return sequence.num_prompt_tokens + min(sequence.request.max_tokens, _EXPECTED_TOKENS)


def _length(sequence: Sequence) -> int:
    return sequence.num_prompt_tokens + sequence.num_output_tokens
