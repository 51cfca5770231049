"""What the engine asks of the thing that runs the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..models.footprint import Footprint
from .messages import Batching, DraftStats, RankMemory, Submit, TokenLogprob

END_OF_GRAMMAR = -1
"""Stands after the token that made a row's grammar complete."""
GRAMMAR_FAILED = -2
"""Stands after the token a row's grammar met a limit of its library at."""
ROW_FAILED = -3
"""Stands after the tokens at which something else of the row's own went wrong."""
NOT_A_NUMBER = -4
"""Stands in the place of a token that no numbers were computed for."""


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """Facts about a loaded model.

    `checkpointed` models can be resumed only where a snapshot of their state was taken: prefill has to stop
    at the prompt's `checkpoints`, every `checkpoint_tokens` and where the request says. No piece of a prompt longer
    than `max_chunk` pays on the device. Sequences take what `footprint` says, None where that is not known, of the
    `memory_bytes` that the model may take in all. One of up to `large_row_tokens` may share slots with others, some of
    them idle.
    """

    device: str
    weight_bytes: int
    checkpointed: bool = False
    checkpoint_tokens: int = 1024
    max_chunk: int = 2048
    footprint: Footprint | None = None
    memory_bytes: int = 0
    large_row_tokens: int = 0


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes: the prefix cache's share, and everything the process holds for the model. `cache_trouble` says why no
    prefix is kept on disk for now, where one should be; so many blocks there were found damaged. `ranks` has what every
    rank of a group holds. `max_cache_bytes` bounds `cache_bytes`; so many blocks had to leave the memory for others,
    and so many bytes were written to the disk."""

    cache_bytes: int = 0
    memory_bytes: int = 0
    cache_trouble: str = ""
    num_damaged_blocks: int = 0
    ranks: list[RankMemory] = field(default_factory=list)
    max_cache_bytes: int = 0
    num_evicted_blocks: int = 0
    disk_written_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Of a row's new tokens, in order; with the first one those of the prompt's tokens, if they were asked for."""

    tokens: list[TokenLogprob]
    prompt: list[TokenLogprob]


@dataclass(frozen=True, slots=True)
class PrefixReport:
    """`num_disk_tokens` of the cached ones were read from the disk; `miss` says why they are not more, "" where they
    are all but the last, and `miss_token` at which token the prompt parts from all that is cached."""

    num_disk_tokens: int = 0
    miss: str = ""
    miss_token: int = 0


class BatchEngine(Protocol):
    """Computes; it decides nothing. All calls come from one thread.

    A request is opened, prefilled in pieces until its prompt is computed, decoded with all the others
    that are ready, and released. Its KV stays behind in the prefix cache. Behind a row's new tokens may stand
    one of `END_OF_GRAMMAR`, `GRAMMAR_FAILED`, `ROW_FAILED` and `NOT_A_NUMBER`: the row is to be released then.

    `open`, `prefill` and `prefill_together` raise `RequestFailed` where something went wrong that concerns the requests
    they were called for and no other: these can only be released. Whatever else is raised ends the engine.
    """

    @property
    def info(self) -> BatchInfo: ...

    @property
    def batching(self) -> Batching:
        """How rows are decoded together, as far as it is known now."""
        ...

    def match(self, request: Submit) -> int:
        """How many leading prompt tokens the prefix cache holds now, at most all but one. Takes nothing."""
        ...

    def fetch(self, request: Submit) -> Iterator[bool]:
        """Bring into memory what `open` will want from the disk, a piece at a time. Each time it is told whether one
        has come; where none has, it is still being read."""
        ...

    def open(self, request: Submit) -> int:
        """Make a row for the request on its cached prefix; the number of prompt tokens that saves.

        Raises `RequestError` where the request cannot be run, and `Overloaded` where it cannot be now; nothing is held
        then.
        """
        ...

    def prefix(self, request_id: str) -> PrefixReport:
        """How the prompt of the row, which has just been opened, was found in the prefix cache."""
        ...

    def prefill(self, request_id: str, count: int) -> list[int]:
        """Compute the next `count` prompt tokens. The call that ends the prompt returns the first
        generated token, and the row takes part in `decode` from then on; others return nothing.

        Where it is given up, it returns nothing, and the row can only be released."""
        ...

    def listen(self, go_on: Callable[[], bool]) -> None:
        """Ask from now on, amid `prefill` and `prefill_together` and often where they take long, whether to go on.
        Rows that they were not called for may be released in that."""
        ...

    @property
    def takes_prompts_together(self) -> bool:
        """Whether `prefill_together` costs less than one prompt after the other."""
        ...

    def prefill_together(self, counts: Mapping[str, int]) -> dict[str, list[int]]:
        """`prefill` of several rows, whose prompts all end with so many tokens more. It need not be known whose fault
        a `RequestFailed` is."""
        ...

    def decode(self) -> dict[str, list[int]]:
        """One step of every row whose prompt is computed: the new tokens of each, in order."""
        ...

    def logprobs(self, request_id: str) -> Logprobs:
        """Of the tokens that the last call of `prefill` or `decode` gave the row; asked for only where the request
        does."""
        ...

    def release(self, request_id: str) -> None:
        """Drop the row, keeping what it computed in the prefix cache. Unknown ids are ignored."""
        ...

    def bound_prefixes(self, num_bytes: int) -> None:
        """Let the prefix cache hold no more than this in memory until the next call, and never more than its own
        bound."""
        ...

    def memory(self) -> MemoryUse: ...

    @property
    def drafts(self) -> list[DraftStats]:
        """What each drafter has brought so far."""
        ...

    def idle(self) -> bool:
        """Do a small piece of work that can wait; whether there is more of it."""
        ...

    def rest(self) -> None:
        """Called when nothing has come for some seconds: give back memory that is free, to be had again when needed."""
        ...

    def check(self) -> None:
        """Called when no request is left: raises `AssertionError` where something is still held for one, or where
        the prefix cache's books are wrong."""
        ...

    def close(self) -> None:
        """Finish what is written in the background. Nothing is called afterwards."""
        ...
