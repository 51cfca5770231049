"""The prefix cache in memory: a tree of blocks, bounded in bytes, forgetting the least recently used.

It knows tokens and sizes; what a block holds is its payload's business. A node holds one block: the full
256 tokens, or fewer at the end of what a request had computed. Wherever payloads can be cut at any
token, a prefix is found to the token; otherwise only up to the end of a node that can be resumed from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from .blocks import BLOCK_TOKENS, BlockHash, block_hash, root_hash, spans


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
class _Node(Generic[P]):
    """A block, or a root: then parent and payload are `None`."""

    name: BlockHash
    parent: _Node[P] | None
    token_ids: tuple[int, ...] = ()
    payload: P | None = None
    children: dict[BlockHash, _Node[P]] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        return len(self.token_ids) == BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Match(Generic[P]):
    """`payloads` hold the first `num_tokens` tokens of the prompt; the last one may hold more than those."""

    num_tokens: int
    payloads: tuple[P, ...]


class PrefixCache(Generic[P]):
    """`identity` names what the payloads depend on besides tokens and salt; `max_bytes` is never exceeded."""

    def __init__(self, identity: str, max_bytes: int) -> None:
        self._identity = identity
        self._max_bytes = max_bytes
        self._nbytes = 0
        self._roots: dict[str, _Node[P]] = {}
        self._recent: dict[_Node[P], None] = {}
        """Least recently used first. A node is used after its children, so the first is always a leaf."""

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def peek(self, token_ids: Sequence[int], salt: str = "") -> int:
        """How many leading tokens `match` would find."""
        return self._find(token_ids, salt)[0]

    def match(self, token_ids: Sequence[int], salt: str = "") -> Match[P]:
        """The longest cached prefix that leaves at least one token to compute."""
        num_tokens, path = self._find(token_ids, salt)
        if path:
            self._touch(path[-1])
        return Match(num_tokens, tuple(node.payload for node in path if node.payload is not None))

    def missing(self, token_ids: Sequence[int], salt: str = "") -> list[tuple[int, int]]:
        """The blocks of `token_ids` to cut and `insert`, in order; the last one may be partial."""
        path = self._full_path(token_ids, salt)
        wanted = list(spans(len(token_ids), len(path) * BLOCK_TOKENS))
        if wanted and wanted[-1][1] % BLOCK_TOKENS and self._holds_tail(path, wanted, token_ids, salt):
            wanted.pop()
        return wanted

    def insert(self, token_ids: Sequence[int], payloads: Sequence[P], salt: str = "") -> None:
        """Keep `payloads`, one for each of the blocks `missing` just named for the same tokens."""
        path = self._full_path(token_ids, salt)
        parent = path[-1] if path else self._root(salt)
        for (start, stop), payload in zip(spans(len(token_ids), len(path) * BLOCK_TOKENS), payloads, strict=False):
            tokens = tuple(token_ids[start:stop])
            node = _Node(block_hash(parent.name, tokens), parent, tokens, payload)
            self._add(node)
            parent = node
        self._touch(parent)
        while self._nbytes > self._max_bytes:
            self._remove(next(iter(self._recent)))

    def _find(self, token_ids: Sequence[int], salt: str) -> tuple[int, list[_Node[P]]]:
        """The usable prefix's length and its nodes, the last of which may be used in part."""
        limit = len(token_ids) - 1
        path = self._full_path(token_ids[:limit], salt)
        best, best_path = 0, []
        for depth, node in enumerate(path, start=1):
            if node.payload is not None and node.payload.resumable:
                best, best_path = depth * BLOCK_TOKENS, path[:depth]
        for depth in range(len(path), -1, -1):
            start = depth * BLOCK_TOKENS
            if start + BLOCK_TOKENS <= best:
                break
            parent = path[depth - 1] if depth else self._roots.get(salt)
            for child in parent.children.values() if parent else ():
                usable = _usable(child, token_ids[start : min(start + BLOCK_TOKENS, limit)])
                if start + usable > best and usable:
                    best, best_path = start + usable, [*path[:depth], child]
        return best, best_path

    def _full_path(self, token_ids: Sequence[int], salt: str) -> list[_Node[P]]:
        """The nodes of the leading full blocks that are here."""
        node = self._roots.get(salt)
        path: list[_Node[P]] = []
        for start, stop in spans(len(token_ids)):
            if node is None or stop - start < BLOCK_TOKENS:
                break
            node = node.children.get(block_hash(node.name, token_ids[start:stop]))
            if node is not None:
                path.append(node)
        return path

    def _holds_tail(
        self, path: list[_Node[P]], wanted: list[tuple[int, int]], token_ids: Sequence[int], salt: str
    ) -> bool:
        """Whether the partial block at the end is here already, or part of a longer divisible one."""
        if len(wanted) > 1:
            return False
        parent = path[-1] if path else self._roots.get(salt)
        start, stop = wanted[0]
        tail = token_ids[start:stop]
        children = parent.children.values() if parent else ()
        return any(_usable(child, tail) == len(tail) for child in children)

    def _root(self, salt: str) -> _Node[P]:
        if salt not in self._roots:
            self._roots[salt] = _Node(root_hash(self._identity, salt), None)
        return self._roots[salt]

    def _add(self, node: _Node[P]) -> None:
        assert node.parent is not None
        assert node.payload is not None
        for sibling in list(node.parent.children.values()):
            if sibling.name == node.name or _replaces(node, sibling):
                self._remove(sibling)
        node.parent.children[node.name] = node
        self._nbytes += node.payload.nbytes
        self._recent[node] = None

    def _remove(self, node: _Node[P]) -> None:
        assert node.parent is not None
        assert node.payload is not None
        assert not node.children
        del node.parent.children[node.name]
        del self._recent[node]
        self._nbytes -= node.payload.nbytes

    def _touch(self, node: _Node[P]) -> None:
        """Mark the node and then its ancestors as the most recently used."""
        while node.parent is not None:
            self._recent.pop(node)
            self._recent[node] = None
            node = node.parent


def _usable(node: _Node[Any], token_ids: Sequence[int]) -> int:
    """How many of `token_ids`, which follow the node's parent, the node's payload can serve."""
    assert node.payload is not None
    same = 0
    for ours, theirs in zip(node.token_ids, token_ids, strict=False):
        if ours != theirs:
            break
        same += 1
    if node.payload.divisible or (node.payload.resumable and same == len(node.token_ids)):
        return same
    return 0


def _replaces(node: _Node[Any], older: _Node[Any]) -> bool:
    """Whether everything `older` can serve, `node` can serve too."""
    assert node.payload is not None
    length = len(older.token_ids)
    return node.payload.divisible and length < len(node.token_ids) and node.token_ids[:length] == older.token_ids
