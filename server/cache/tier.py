"""The store below the memory: slower, larger, and there after a restart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from .blocks import BlockHash

P = TypeVar("P")


class LowerTier(Protocol[P]):
    """Whatever goes wrong below is a miss, never an error."""

    @property
    def trouble(self) -> str:
        """Why nothing is kept for now, in words for the user; "" where all is well."""
        ...

    @property
    def num_damaged(self) -> int:
        """Blocks that were found damaged, and thrown away, since the start."""
        ...

    @property
    def written_bytes(self) -> int:
        """What was written since the start."""
        ...

    def holds(self, name: BlockHash) -> bool:
        """Whether the block could be read."""
        ...

    def is_resumable(self, name: BlockHash) -> bool:
        """Whether a sequence can go on from the end of this block, which the tier holds."""
        ...

    def is_divisible(self, name: BlockHash) -> bool:
        """Whether it can go on from any token within, too."""
        ...

    def tails(self, parent: BlockHash) -> Sequence[int]:
        """The lengths in tokens of the partial blocks that follow `parent`, longest first."""
        ...

    def children(self, parent: BlockHash, divisible: bool = False) -> Sequence[tuple[BlockHash, tuple[int, ...]]]:
        """The names and tokens of blocks that follow `parent`, those used last; with `divisible`, of those only that a
        sequence can go on from within. There may be more, and some whose tokens are not known."""
        ...

    def fetch(self, names: Sequence[BlockHash]) -> None:
        """These will be read soon, in this order: begin now, in the background, as far as there is room."""
        ...

    def is_fetching(self, names: Sequence[BlockHash]) -> bool:
        """Whether `read` would wait for one that is on its way."""
        ...

    def read(self, name: BlockHash) -> P | None: ...

    def write(self, name: BlockHash, parent: BlockHash, token_ids: Sequence[int], payload: P) -> bool:
        """Keep the block; may go on in the background. False where it is not taken, for now or for good."""
        ...

    def has_room(self, may_wait: bool = True) -> bool:
        """Whether a block could be taken now. Waits a moment for that to become true, if it `may_wait`."""
        ...

    def used(self, names: Sequence[BlockHash]) -> Collection[BlockHash]:
        """These blocks served a request; the last is wanted most. Returns those that others have removed."""
        ...

    def close(self) -> None:
        """Finish what is under way."""
        ...
