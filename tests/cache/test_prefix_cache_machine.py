"""The prefix cache beside the plainest one there is: a list of everything that was ever computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from omlx.server.cache.prefix_cache import Match, Miss, PrefixCache

from ..machines import CountingMachine, short
from .test_prefix_cache import Block
from .test_two_tiers import Shelf

BLOCK = 256
BLOCK_BYTES = 10
TOKENS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([1, 3, 250, 256, 257])), min_size=1, max_size=5)
"""Runs of one token, so that prompts meet, part, and end at and around the ends of blocks."""
SALTS = st.sampled_from(["", "a"])


def flat(runs: Sequence[tuple[int, int]]) -> list[int]:
    return [token for token, count in runs for _ in range(count)]


class PrefixCacheMachine(CountingMachine):
    """`computed` holds what an uncached engine would have had to compute, each under its salt."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[tuple[str, list[int]]] = []
        self.coming: list[Iterator[bool]] = []
        """Prompts whose blocks are on their way up."""
        self.shelf: Shelf | None = None

    @initialize(divisible=st.booleans(), max_blocks=st.integers(0, 8), lower=st.booleans())
    def begin(self, divisible: bool, max_blocks: int, lower: bool = False) -> None:
        self.divisible, self.max_bytes = divisible, max_blocks * BLOCK_BYTES
        self.bound = self.max_bytes
        self.shelf = Shelf() if lower else None
        self.cache: PrefixCache[Block] = PrefixCache("model", self.max_bytes, self.shelf)

    @rule(runs=TOKENS, salt=SALTS)
    def ask(self, runs: list[tuple[int, int]], salt: str) -> None:
        self.look_up(flat(runs), salt)

    @rule(runs=TOKENS, salt=SALTS, resumable=st.booleans())
    def compute(self, runs: list[tuple[int, int]], salt: str, resumable: bool) -> None:
        """A request from its match to its end, as the engine has it."""
        token_ids = flat(runs)
        self.look_up(token_ids, salt)
        spans = self.cache.missing(token_ids, salt, resumable=resumable)
        assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]], "the blocks leave gaps"
        assert not spans or spans[-1][1] == len(token_ids)
        self.cache.insert(token_ids, spans, [self.block(token_ids, *span, resumable) for span in spans], salt)
        self.computed.append((salt, token_ids))

    @rule(num_blocks=st.integers(0, 8))
    def sequences_take_the_memory(self, num_blocks: int) -> None:
        self.bound = min(num_blocks * BLOCK_BYTES, self.max_bytes)
        self.cache.bound(self.bound)

    @precondition(lambda self: self.shelf is not None)
    @rule(runs=TOKENS, salt=SALTS)
    def begin_to_fetch(self, runs: list[tuple[int, int]], salt: str) -> None:
        coming: Any = self.cache.fetch(flat(runs), salt)
        if isinstance(coming, Iterator):
            self.coming.append(coming)

    @precondition(lambda self: self.coming)
    @rule(data=st.data(), arrived=st.integers(0, 3))
    def bring_up(self, data: st.DataObject, arrived: int) -> None:
        """A block of one of the prompts that are waited for; which prompt it is changes all the time."""
        assert self.shelf is not None
        del self.shelf.fetching[:arrived]
        index = data.draw(st.integers(0, len(self.coming) - 1))
        if next(self.coming[index], None) is None:
            del self.coming[index]

    @precondition(lambda self: self.shelf is not None)
    @rule(count=st.integers(1, 8))
    def save(self, count: int) -> None:
        for _ in range(count):
            self.cache.save_one(may_wait=False)

    @precondition(lambda self: self.shelf is not None)
    @rule(is_full=st.booleans())
    def the_disk_is_full_or_not(self, is_full: bool) -> None:
        assert self.shelf is not None
        self.shelf.full = is_full

    @precondition(lambda self: self.shelf is not None and self.shelf.blocks)
    @rule(data=st.data(), is_noticed=st.booleans())
    def lose_a_block_below(self, data: st.DataObject, is_noticed: bool) -> None:
        """It is gone, or seen to be damaged when it is read."""
        assert self.shelf is not None
        name = data.draw(st.sampled_from(sorted(self.shelf.blocks)))
        if is_noticed:
            del self.shelf.blocks[name], self.shelf.parents[name]
            self.shelf.broken.discard(name)
        else:
            self.shelf.broken.add(name)

    @rule(is_orderly=st.booleans())
    def start_again(self, is_orderly: bool) -> None:
        """With what the lower tier has; an orderly end saves what it lacked."""
        if is_orderly:
            self.cache.close()
        self.coming.clear()
        self.bound = self.max_bytes
        self.cache = PrefixCache("model", self.max_bytes, self.shelf)

    def block(self, token_ids: list[int], start: int, stop: int, resumable: bool) -> Block:
        return Block(tuple(token_ids[start:stop]), BLOCK_BYTES, self.divisible, resumable or self.divisible)

    def look_up(self, token_ids: list[int], salt: str) -> None:
        peeked = self.cache.peek(token_ids, salt)
        match: Match[Any] = self.cache.match(token_ids, salt)
        held = [token for block in match.payloads for token in block.token_ids]
        assert held[: match.num_tokens] == token_ids[: match.num_tokens], "another prompt's tokens"
        assert len(held) >= match.num_tokens
        assert match.num_tokens <= peeked  # less where the tier below fails, or memory has no room for what it has
        if self.shelf is None:
            assert match.num_tokens == peeked
            assert match.num_lower_tokens == 0
        assert match.num_lower_tokens <= match.num_tokens <= max(0, len(token_ids) - 1)
        assert match.num_tokens <= self.longest(token_ids, salt), "more than was ever computed"
        assert match.miss_token <= self.longest(token_ids, salt), "more is said to be the same than was ever computed"
        assert (match.miss is Miss.NONE) == (match.num_tokens >= len(token_ids) - 1)

    def longest(self, token_ids: list[int], salt: str) -> int:
        """What an unbounded cache without blocks would find."""
        return max(
            (
                next(
                    (i for i, (a, b) in enumerate(zip(known, token_ids, strict=False)) if a != b),
                    min(len(known), len(token_ids)),
                )
                for under, known in self.computed
                if under == salt
            ),
            default=0,
        )

    @invariant()
    def the_books_agree(self) -> None:
        self.cache.check()
        assert self.cache.nbytes <= self.bound


PrefixCacheMachine.TestCase.settings = short(60, 25)
test_any_order_of_prompts = PrefixCacheMachine.TestCase


def test_a_cache_with_room_for_all_finds_what_the_uncached_reference_computed() -> None:
    machine = PrefixCacheMachine()
    machine.begin(divisible=True, max_blocks=100)
    for runs in ([(0, 300)], [(0, 300), (1, 20)], [(0, 260), (1, 300)]):
        machine.compute(runs, "", True)
    for runs in ([(0, 280), (1, 1)], [(0, 300), (1, 9)], [(0, 260), (1, 299)]):
        assert machine.cache.peek(flat(runs)) == min(machine.longest(flat(runs), ""), len(flat(runs)) - 1)


@pytest.mark.parametrize("salt", ["", "b"])
def test_the_machine_notices_a_cache_that_crosses_salts(salt: str) -> None:
    machine = PrefixCacheMachine()
    machine.begin(divisible=True, max_blocks=100)
    machine.compute([(0, 300)], "a", True)
    machine.computed.clear()
    with pytest.raises(AssertionError, match="more than was ever"):
        machine.look_up([0] * 300, "a")
    machine.look_up([0] * 300, salt)
