"""The prefix cache in memory: a tree of blocks, bounded in bytes, forgetting the least recently used.

It knows tokens and sizes; what a block holds is its payload's business. A node holds one block: the full
256 tokens, or fewer at the end of what a request had computed. Wherever payloads can be cut at any
token, a prefix is found to the token; otherwise only up to the end of a node that can be resumed from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from .blocks import BLOCK_TOKENS, BlockHash, block_hash, root_hash, spans
from .nodes import Node, Payload, num_risen, num_same, payload_of, replaces, usable
from .tier import LowerTier

P = TypeVar("P", bound=Payload)
_MAX_EVICTED = 8192
_NUM_AHEAD = 8
"""Blocks that the lower tier is to read at a time."""


class Miss(StrEnum):
    """Why a cached prefix ends before the prompt's last token."""

    NONE = ""
    """It does not."""
    EMPTY = "nothing is cached for this key"
    DIFFERS = "the prompt differs from here on"
    LONGER = "the prompt goes on from here"
    NOT_RESUMABLE = "more is the same, but the model's layers cannot go on from there"
    EVICTED = "what followed was pushed out"


@dataclass(frozen=True, slots=True)
class Match(Generic[P]):
    """`payloads` hold the first `num_tokens` tokens of the prompt; the last one may hold more than those.

    Of these `num_lower_tokens` were read from the tier below and found by no prompt before; `miss` says why they are
    not more, and `miss_token` at which token the prompt parts from all that is cached.
    """

    num_tokens: int
    payloads: tuple[P, ...]
    num_lower_tokens: int = 0
    miss: Miss = Miss.NONE
    miss_token: int = 0


class PrefixCache(Generic[P]):
    """`identity` names what the payloads depend on besides tokens and salt; `max_bytes` is never exceeded.

    Blocks go down to `lower` when there is nothing else to do and now and then beside other work, those first that a
    second request has used, and when memory has no more room for them; they come back up when a prompt wants them.
    """

    def __init__(self, identity: str, max_bytes: int, lower: LowerTier[P] | None = None) -> None:
        self._identity = identity
        self._lower = lower
        self._max_bytes = self._bound = max_bytes
        self._nbytes = 0
        self._roots: dict[BlockHash, Node[P]] = {}
        """Of the salts under which something is kept."""
        self._recent: dict[Node[P], None] = {}
        """Least recently used first. A node is used after its children, so the first is always a leaf."""
        self._shared: dict[Node[P], None] = {}
        """What more than one request has used and the lower tier lacks, the first use first."""
        self._evicted: dict[BlockHash, None] = {}
        """The names of the last blocks that had to leave, to tell a prompt that misses one."""
        self._num_evicted = 0

    @property
    def nbytes(self) -> int:
        return self._nbytes

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    @property
    def num_evicted(self) -> int:
        """Blocks that had to leave the memory for others."""
        return self._num_evicted

    @property
    def lower_written_bytes(self) -> int:
        """What the lower tier has written since the start."""
        return self._lower.written_bytes if self._lower else 0

    @property
    def trouble(self) -> str:
        """Why the lower tier keeps nothing for now; "" where all is well, or there is none."""
        return self._lower.trouble if self._lower else ""

    @property
    def num_damaged(self) -> int:
        """Blocks the lower tier found damaged."""
        return self._lower.num_damaged if self._lower else 0

    def bound(self, num_bytes: int) -> None:
        """Hold no more than this from now on, and never more than `max_bytes`."""
        self._bound = min(num_bytes, self._max_bytes)
        self._shrink()

    def peek(self, token_ids: Sequence[int], salt: str = "") -> int:
        """How many leading tokens `match` would find, short of a lower tier that fails."""
        return self._look_below(token_ids, salt)[0]

    def fetch(self, token_ids: Sequence[int], salt: str = "", may_wait: bool = False) -> Iterator[bool]:
        """Bring up what the lower tier has of the prompt beyond what is here, a block at a time, while the next ones
        are read in the background. Each time it is told whether a block has come; where none has, and this may not
        wait, the lower tier is not as far yet."""
        below = self._look_below(token_ids, salt)[1]
        if self._lower is None or not below:
            return
        path = self._full_path(token_ids[:-1], salt)
        parent = path[-1] if path else None
        self._lower.fetch([name for name, _ in below[:_NUM_AHEAD]])
        if not may_wait:
            yield False
        for index, (name, tokens) in enumerate(below):
            self._lower.fetch([name for name, _ in below[index : index + _NUM_AHEAD]])
            while not may_wait and self._lower.is_fetching([name]):
                yield False
            parent = self._raise(parent, salt, name, tokens)
            if parent is None:
                return
            yield True

    def match(self, token_ids: Sequence[int], salt: str = "") -> Match[P]:
        """The longest cached prefix that leaves at least one token to compute."""
        for _ in self.fetch(token_ids, salt, may_wait=True):
            pass
        num_tokens, path = self._find(self._full_path(token_ids[:-1], salt), token_ids, salt)
        if path:
            self._touch(path[-1])
        if self._lower is not None:
            gone = self._lower.used([node.name for node in reversed(path)])
            for node in path:
                node.saved = node.saved and node.name not in gone
            self._shared |= dict.fromkeys(node for node in path if not node.saved)
        payloads = tuple(node.payload for node in path if node.payload is not None)
        return Match(num_tokens, payloads, num_risen(path, num_tokens), *self._why(token_ids, salt, num_tokens))

    def save_one(self, may_wait: bool = True) -> bool:
        """Give the lower tier a block it lacks, or wait a moment, if it `may_wait`, where it takes none now; whether
        there may be more."""
        if self._lower is None:
            return False
        node = next(iter(self._shared), None) or next((node for node in reversed(self._recent) if not node.saved), None)
        if node is None:
            return False
        if not self._lower.has_room(may_wait):
            return True
        return self._save(node)

    def close(self, has_time: Callable[[], bool] = lambda: True) -> None:
        """Save what the lower tier lacks while there is time, what more than one request has used first and then the
        most recent, and end."""
        if self._lower is None:
            return
        unsaved = dict.fromkeys([*self._shared, *(node for node in reversed(self._recent) if not node.saved)])
        for node in unsaved:
            while not (has_room := self._lower.has_room()) and has_time():
                pass
            if not has_room or not has_time() or not self._save(node):
                break
        self._lower.close()

    def check(self) -> None:
        """Raise `AssertionError` where the books disagree: blocks, their sizes, their order of use, the tree."""
        seen: set[Node[P]] = set()
        below = list(self._roots.values())
        while below:
            for child in (node := below.pop()).children.values():
                assert child.parent is node, "a block has two parents"
                seen.add(child)
                below.append(child)
        assert all(root.children for root in self._roots.values()), "a salt is remembered for nothing"
        assert seen == self._recent.keys(), "blocks that are in use, and blocks in order of use, differ"
        assert self._shared.keys() <= seen, "a block to be saved is gone"
        assert sum(payload_of(node).nbytes for node in seen) == self._nbytes <= self._max_bytes, "the sizes are wrong"
        used: set[Node[P]] = set()
        for node in self._recent:
            assert node.parent not in used, "a block would leave before those that follow it"
            used.add(node)

    def missing(self, token_ids: Sequence[int], salt: str = "", resumable: bool = False) -> list[tuple[int, int]]:
        """The blocks of `token_ids` to cut and `insert`, in order; the last one may be partial.

        With `resumable`, a last block that is here but cannot be resumed from is to be cut again.
        """
        path = self._full_path(token_ids, salt)
        wanted = list(spans(len(token_ids), len(path) * BLOCK_TOKENS))
        if not wanted and path and resumable and not payload_of(path[-1]).resumable:
            return [(len(token_ids) - BLOCK_TOKENS, len(token_ids))]
        if len(wanted) == 1 and wanted[0][1] % BLOCK_TOKENS:
            tail = token_ids[wanted[0][0] :]
            siblings = self._children(path, salt)
            if any(usable(sibling, tail) == len(tail) for sibling in siblings):
                wanted.pop()
        return wanted

    def insert(
        self, token_ids: Sequence[int], blocks: Sequence[tuple[int, int]], payloads: Sequence[P], salt: str = ""
    ) -> None:
        """Keep the payloads of the `blocks` that `missing` has just named for the same tokens."""
        if not blocks:
            return
        path = self._full_path(token_ids[: blocks[0][0]], salt)
        parent = path[-1] if path else self._root(salt)
        for (start, stop), payload in zip(blocks, payloads, strict=True):
            tokens = tuple(token_ids[start:stop])
            parent = self._add(parent, block_hash(parent.name, tokens), tokens, payload)
        self._settle(parent)

    def _raise(self, parent: Node[P] | None, salt: str, name: BlockHash, tokens: tuple[int, ...]) -> Node[P] | None:
        """The block that follows its parent, or begins a prompt, read from the lower tier where it is not here; None
        where it cannot be had, or the parent has had to leave meanwhile."""
        if parent is not None and parent not in self._recent:
            return None
        known = next((child for child in self._children([parent] if parent else [], salt) if child.name == name), None)
        payload = self._lower.read(name) if known is None and self._lower is not None else None
        if payload is None:
            return known
        node = self._add(parent or self._root(salt), name, tokens, payload)
        node.saved = node.risen = True
        self._settle(node)
        return node

    def _why(self, token_ids: Sequence[int], salt: str, num_tokens: int) -> tuple[Miss, int]:
        """Why no more than `num_tokens` were found, and how many leading tokens are those of something cached."""
        if num_tokens >= len(token_ids) - 1:
            return Miss.NONE, num_tokens
        path = self._full_path(token_ids, salt)
        parent, start = self._name(path, salt), len(path) * BLOCK_TOKENS
        cached = [child.token_ids for child in self._children(path, salt)]
        rest = tuple(token_ids[start : start + BLOCK_TOKENS])
        if self._lower is not None:
            while len(rest) == BLOCK_TOKENS and self._lower.holds(name := block_hash(parent, rest)):
                parent, start, cached = name, start + BLOCK_TOKENS, []
                rest = tuple(token_ids[start : start + BLOCK_TOKENS])
            cached += [tokens for _, tokens in self._lower.children(parent)]
        same = start + max((num_same(tokens, rest) for tokens in cached), default=0)
        if len(rest) == BLOCK_TOKENS and block_hash(parent, rest) in self._evicted:
            return Miss.EVICTED, same
        if same > num_tokens:  # where it came up from below, memory had no room for it
            _, below = self._look_below(token_ids, salt)
            return (Miss.EVICTED if any(name in self._evicted for name, _ in below) else Miss.NOT_RESUMABLE), same
        if not start and not cached:
            return Miss.EMPTY, same
        ends = any(start + len(tokens) == same for tokens in cached) or (start and not cached)
        return (Miss.LONGER if ends else Miss.DIFFERS), same

    def _look_below(self, token_ids: Sequence[int], salt: str) -> tuple[int, list[tuple[BlockHash, tuple[int, ...]]]]:
        """How many leading tokens can be had, and the blocks of the lower tier for that, after those in memory."""
        limit = len(token_ids) - 1
        path = self._full_path(token_ids[:-1], salt)
        num_tokens, _ = self._find(path, token_ids, salt)
        parent = self._name(path, salt)
        below: list[tuple[BlockHash, tuple[int, ...]]] = []
        best = below
        for start, stop in spans(len(token_ids), len(path) * BLOCK_TOKENS):
            if self._lower is None or num_tokens >= limit:
                break
            rest = tuple(token_ids[start:stop])
            lengths = [BLOCK_TOKENS, *self._lower.tails(parent)]
            named = ((block_hash(parent, rest[:length]), rest[:length]) for length in lengths if length <= len(rest))
            held = [block for block in named if self._lower.holds(block[0])]
            is_whole = bool(held) and len(held[0][1]) == BLOCK_TOKENS
            for name, tokens in held if is_whole else [*held, *self._lower.children(parent, divisible=True)]:
                length = self._usable_below(name, tokens, rest[: limit - start])
                if length and start + length > num_tokens:
                    num_tokens, best = start + length, [*below, (name, tokens)]
            if not is_whole:
                break
            below = [*below, held[0]]
            parent = held[0][0]
        return num_tokens, best

    def _usable_below(self, name: BlockHash, tokens: tuple[int, ...], wanted: tuple[int, ...]) -> int:
        """How many of the wanted tokens this block of the lower tier can serve."""
        assert self._lower is not None
        same = num_same(tokens, wanted)
        is_usable = self._lower.is_divisible(name) or (same == len(tokens) and self._lower.is_resumable(name))
        return same if is_usable else 0

    def _save(self, node: Node[P]) -> bool:
        """Offer the node to the lower tier; whether that has it now."""
        assert node.parent is not None
        self._shared.pop(node, None)
        if self._lower is None or node.saved:
            return True
        node.saved = self._lower.write(node.name, node.parent.name, node.token_ids, payload_of(node))
        return node.saved

    def _find(self, path: list[Node[P]], token_ids: Sequence[int], salt: str) -> tuple[int, list[Node[P]]]:
        """The usable prefix's length and its nodes, the last of which may be used in part. `path` are those of its full
        blocks that leave a token to compute."""
        limit = len(token_ids) - 1
        best, best_path = 0, []
        for depth, node in enumerate(path, start=1):
            if payload_of(node).resumable:
                best, best_path = depth * BLOCK_TOKENS, path[:depth]
        for depth in range(len(path), -1, -1):
            start = depth * BLOCK_TOKENS
            if start + BLOCK_TOKENS <= best:
                break
            for child in self._children(path[:depth], salt):
                length = usable(child, token_ids[start : min(start + BLOCK_TOKENS, limit)])
                if start + length > best and length:
                    best, best_path = start + length, [*path[:depth], child]
        return best, best_path

    def _full_path(self, token_ids: Sequence[int], salt: str) -> list[Node[P]]:
        """The nodes of the leading full blocks that are here."""
        node = self._roots.get(root_hash(self._identity, salt))
        path: list[Node[P]] = []
        for start, stop in spans(len(token_ids)):
            if node is None or stop - start < BLOCK_TOKENS:
                break
            node = node.children.get(block_hash(node.name, token_ids[start:stop]))
            if node is not None:
                path.append(node)
        return path

    def _children(self, path: Sequence[Node[P]], salt: str) -> list[Node[P]]:
        parent = path[-1] if path else self._roots.get(root_hash(self._identity, salt))
        return list(parent.children.values()) if parent else []

    def _name(self, path: Sequence[Node[P]], salt: str) -> BlockHash:
        """The last block's, or that of the root before the first one."""
        return path[-1].name if path else root_hash(self._identity, salt)

    def _root(self, salt: str) -> Node[P]:
        name = root_hash(self._identity, salt)
        return self._roots.setdefault(name, Node(name, None))

    def _add(self, parent: Node[P], name: BlockHash, tokens: tuple[int, ...], payload: P) -> Node[P]:
        node = parent.children.get(name)
        if node is None:
            node = Node(name, parent, tokens)
            self._recent[node] = None
        else:
            self._nbytes -= payload_of(node).nbytes
            node.saved = False
        node.payload = payload
        self._nbytes += payload.nbytes
        parent.children[name] = node
        for sibling in list(parent.children.values()):
            if replaces(node, sibling):
                self._remove(sibling)
        return node

    def _settle(self, node: Node[P]) -> None:
        """After insertions down to `node`: mark it used, and let the oldest go until the rest fits."""
        self._touch(node)
        self._forget_empty(node)
        self._shrink()

    def _shrink(self) -> None:
        while self._nbytes > self._bound:
            oldest = next(iter(self._recent))
            self._save(oldest)
            self._remove(oldest)
            self._num_evicted += 1
            self._evicted[oldest.name] = None
            if len(self._evicted) > _MAX_EVICTED:
                del self._evicted[next(iter(self._evicted))]

    def _remove(self, node: Node[P]) -> None:
        assert node.parent is not None
        assert not node.children
        del node.parent.children[node.name]
        del self._recent[node]
        self._shared.pop(node, None)
        self._nbytes -= payload_of(node).nbytes
        self._forget_empty(node.parent)

    def _forget_empty(self, node: Node[P]) -> None:
        """A root under which nothing is left."""
        if node.parent is None and not node.children:
            self._roots.pop(node.name, None)

    def _touch(self, node: Node[P]) -> None:
        """Mark the node and then its ancestors as the most recently used."""
        while node.parent is not None:
            self._recent.pop(node)
            self._recent[node] = None
            node = node.parent
