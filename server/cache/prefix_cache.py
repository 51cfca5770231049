"""The prefix cache in memory: a tree of blocks, bounded in bytes, forgetting the least recently used.

It knows tokens and sizes; what a block holds is its payload's business. A node holds one block: the full
256 tokens, or fewer at the end of what a request had computed. Wherever payloads can be cut at any
token, a prefix is found to the token; otherwise only up to the end of a node that can be resumed from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from .blocks import BLOCK_TOKENS, BlockHash, block_hash, root_hash, spans
from .nodes import Node, Payload, num_same, payload_of, replaces, usable
from .tier import LowerTier

P = TypeVar("P", bound=Payload)
_MAX_EVICTED = 8192


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

    Of these `num_lower_tokens` were read from the tier below; `miss` says why they are not more.
    """

    num_tokens: int
    payloads: tuple[P, ...]
    num_lower_tokens: int = 0
    miss: Miss = Miss.NONE


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
        below = sum(len(tokens) for _, tokens in self._path_below(token_ids, salt))
        start = len(self._full_path(token_ids[: len(token_ids) - 1], salt)) * BLOCK_TOKENS
        return max(self._find(token_ids, salt)[0], min(start + below, len(token_ids) - 1) if below else 0)

    def fetch(self, token_ids: Sequence[int], salt: str = "") -> Callable[[], bool]:
        """Have the lower tier begin to read what `match` will want of it; the result says whether it is done."""
        lower, names = self._lower, [name for name, _ in self._path_below(token_ids, salt)]
        if lower is None or not names:
            return lambda: True
        lower.fetch(names)
        return lambda: not lower.is_fetching(names)

    def match(self, token_ids: Sequence[int], salt: str = "") -> Match[P]:
        """The longest cached prefix that leaves at least one token to compute."""
        num_lower_tokens = self._bring_up(token_ids, salt)
        num_tokens, path = self._find(token_ids, salt)
        if path:
            self._touch(path[-1])
        if self._lower is not None:
            self._shared |= dict.fromkeys(node for node in path if not node.saved)
            self._lower.used([node.name for node in reversed(path)])
        payloads = tuple(node.payload for node in path if node.payload is not None)
        return Match(num_tokens, payloads, min(num_lower_tokens, num_tokens), self._why(token_ids, salt, num_tokens))

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

    def _bring_up(self, token_ids: Sequence[int], salt: str) -> int:
        """Read into memory what the lower tier has of the prompt beyond what is here; how many tokens came."""
        below = self._path_below(token_ids, salt)
        if not below or self._lower is None:
            return 0
        path = self._full_path(token_ids[: len(token_ids) - 1], salt)
        parent = path[-1] if path else self._root(salt)
        num_tokens = 0
        for name, tokens in below:
            payload = self._lower.read(name)
            if payload is None:
                break
            parent = self._add(parent, name, tokens, payload)
            parent.saved = True
            num_tokens += len(tokens)
        self._settle(parent)
        return num_tokens

    def _why(self, token_ids: Sequence[int], salt: str, num_tokens: int) -> Miss:
        """Why no more than `num_tokens` were found."""
        if num_tokens >= len(token_ids) - 1:
            return Miss.NONE
        path = self._full_path(token_ids, salt)
        start = len(path) * BLOCK_TOKENS
        rest = token_ids[start : start + BLOCK_TOKENS]
        children = self._children(path, salt)
        same = start + max((num_same(child.token_ids, rest) for child in children), default=0)
        parent = path[-1].name if path else root_hash(self._identity, salt)
        if len(rest) == BLOCK_TOKENS and block_hash(parent, tuple(rest)) in self._evicted:
            return Miss.EVICTED
        if same > num_tokens:
            return Miss.NOT_RESUMABLE
        if not path and not children:
            return Miss.EMPTY
        ends = any(start + len(child.token_ids) == same for child in children) or (path and not children)
        return Miss.LONGER if ends else Miss.DIFFERS

    def _path_below(self, token_ids: Sequence[int], salt: str) -> list[tuple[BlockHash, tuple[int, ...]]]:
        """The blocks of the prompt, after those in memory, that the lower tier has and that are of use."""
        if self._lower is None:
            return []
        limit = len(token_ids) - 1
        path = self._full_path(token_ids[:limit], salt)
        parent = path[-1].name if path else root_hash(self._identity, salt)
        below: list[tuple[BlockHash, tuple[int, ...]]] = []
        best = below
        for start, stop in spans(len(token_ids), len(path) * BLOCK_TOKENS):
            lengths = [BLOCK_TOKENS] if stop - start == BLOCK_TOKENS else []
            lengths += [length for length in self._lower.tails(parent) if length <= stop - start]
            candidates = (tuple(token_ids[start : start + length]) for length in lengths)
            named = ((block_hash(parent, tokens), tokens) for tokens in candidates)
            held = [block for block in named if self._lower.holds(block[0])]
            ends = (block for block in held if self._serves(block[0], whole=start + len(block[1]) <= limit))
            if (last := next(ends, None)) is not None:
                best = [*below, last]
            if not held or len(held[0][1]) < BLOCK_TOKENS:
                break
            below = [*below, held[0]]
            parent = held[0][0]
        return best

    def _serves(self, name: BlockHash, whole: bool) -> bool:
        """Whether a prompt can go on from the end of this block below, or, if not `whole`, from within it."""
        assert self._lower is not None
        return self._lower.is_resumable(name) if whole else self._lower.is_divisible(name)

    def _save(self, node: Node[P]) -> bool:
        """Offer the node to the lower tier; whether that has it now."""
        assert node.parent is not None
        self._shared.pop(node, None)
        if self._lower is None or node.saved:
            return True
        node.saved = self._lower.write(node.name, node.parent.name, len(node.token_ids), payload_of(node))
        return node.saved

    def _find(self, token_ids: Sequence[int], salt: str) -> tuple[int, list[Node[P]]]:
        """The usable prefix's length and its nodes, the last of which may be used in part."""
        limit = len(token_ids) - 1
        path = self._full_path(token_ids[:limit], salt)
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
