"""One request as the scheduler sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from ..cache.blocks import BLOCK_TOKENS
from ..common_prefix import common_prefix
from .batch import PrefixReport
from .messages import Submit


class SequenceStatus(StrEnum):
    WAITING = "waiting"
    """Accepted; holds nothing in the batch yet."""
    RUNNING = "running"
    """Open in the batch: its prompt is being computed, or it decodes."""
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """A request with its progress.

    `num_computed_tokens` counts prompt tokens in the cache, the `num_cached_tokens` reused ones included.
    While the sequence waits, `num_cached_tokens` is what the prefix cache held when it was last asked.
    """

    request: Submit
    arrived: float
    status: SequenceStatus = SequenceStatus.WAITING
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    piece_size: int = 0
    """Of its prompt's last piece, in tokens; it may have been cut short."""
    max_piece: int = 1 << 30
    """The same, beside rows that decode, by how long others took."""
    seconds_per_token: float = 0.0
    """Of its prompt's last piece; the later ones take longer."""
    goes_alone: bool = False
    """Whether its prompt is computed in no pass with others, since a pass that it was in has failed."""
    queue_seconds: float = 0.0
    prefix: PrefixReport = field(default_factory=PrefixReport)
    fetching: Iterator[bool] = field(default_factory=lambda: iter(()))
    """Brings up what the disk has of its prompt, a piece at a time."""
    is_fetched: bool = True
    """Whether all of that is here."""
    _shared: dict[str, int] = field(default_factory=dict)

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.token_ids)

    @property
    def num_remaining_tokens(self) -> int:
        """Prompt tokens still to compute, as far as is known."""
        return self.num_prompt_tokens - max(self.num_computed_tokens, self.num_cached_tokens)

    @property
    def is_prefilling(self) -> bool:
        return self.status is SequenceStatus.RUNNING and self.num_computed_tokens < self.num_prompt_tokens

    @property
    def is_decoding(self) -> bool:
        return self.status is SequenceStatus.RUNNING and self.num_computed_tokens == self.num_prompt_tokens

    def num_shared_tokens(self, other: Sequence) -> int:
        """How many leading prompt tokens both have and may share; 0 across cache salts."""
        known = self._shared.get(other.request_id)
        if known is None:
            same_salt = self.request.cache_salt == other.request.cache_salt
            known = common_prefix(self.request.token_ids, other.request.token_ids) if same_salt else 0
            self._shared[other.request_id] = known
        return known


def checkpoints(request: Submit, every: int) -> set[int]:
    """Positions in the prompt where the next request is likely to part from this one, and its end.

    Besides the request's own boundaries these are the multiples of `every`, and the last block's start: the
    same prompt again has to stop short of its end.
    """
    length = len(request.token_ids)
    last_block = (length - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    return {*request.boundaries, *range(every, length, every), last_block, length}
