"""The tree that the prefix cache is: a node holds one block, and follows the block before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from .blocks import BLOCK_TOKENS, BlockHash


class Payload(Protocol):
    """The cached values of one block. `resumable` says that a sequence can go on from the block's end;
    `divisible`, that it can also go on from any token within."""

    @property
    def nbytes(self) -> int: ...
    @property
    def resumable(self) -> bool: ...
    @property
    def divisible(self) -> bool: ...


P = TypeVar("P", bound=Payload)


@dataclass(slots=True, eq=False)
class Node(Generic[P]):
    """A block, or a root: then parent and payload are `None`."""

    name: BlockHash
    parent: Node[P] | None
    token_ids: tuple[int, ...] = ()
    payload: P | None = None
    saved: bool = False
    """Offered to the lower tier, or come from it."""
    risen: bool = False
    """Come from the lower tier, and found by no prompt since."""
    children: dict[BlockHash, Node[P]] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        return len(self.token_ids) == BLOCK_TOKENS


def payload_of(node: Node[P]) -> P:
    assert node.payload is not None
    return node.payload


def usable(node: Node[Any], token_ids: Sequence[int]) -> int:
    """How many of `token_ids`, which follow the node's parent, the node's payload can serve."""
    assert node.payload is not None
    same = num_same(node.token_ids, token_ids)
    if node.payload.divisible or (node.payload.resumable and same == len(node.token_ids)):
        return same
    return 0


def num_same(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many leading tokens both have."""
    return next(
        (index for index, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )


def replaces(node: Node[Any], older: Node[Any]) -> bool:
    """Whether everything `older` can serve, `node` can serve too."""
    assert node.payload is not None
    length = len(older.token_ids)
    return node.payload.divisible and length < len(node.token_ids) and node.token_ids[:length] == older.token_ids


def num_risen(path: Sequence[Node[Any]], num_tokens: int) -> int:
    """How many of the leading tokens have come from the lower tier since a prompt was last told of them."""
    start = count = 0
    for node in path:
        stop = min(start + len(node.token_ids), num_tokens)
        count += stop - start if node.risen else 0
        start, node.risen = stop, False
    return count
