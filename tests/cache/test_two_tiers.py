"""Memory over a lower tier: what goes down, what comes up, and that a tier that fails costs only speed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from omlx.server.cache.blocks import BLOCK_TOKENS, BlockHash
from omlx.server.cache.prefix_cache import Miss, PrefixCache

from .test_prefix_cache import Block, found, remember


@dataclass
class Shelf:
    """A lower tier in a dictionary. Reading one of `broken` fails, as a damaged file does."""

    blocks: dict[BlockHash, Block] = field(default_factory=dict)
    parents: dict[BlockHash, BlockHash] = field(default_factory=dict)
    broken: set[BlockHash] = field(default_factory=set)
    full: bool = False
    closed: bool = False
    trouble: str = ""
    num_damaged: int = 0
    written_bytes: int = 0
    fetching: list[BlockHash] = field(default_factory=list)
    asked: set[BlockHash] = field(default_factory=set)

    def holds(self, name: BlockHash) -> bool:
        return name in self.blocks

    def is_resumable(self, name: BlockHash) -> bool:
        return self.blocks[name].resumable

    def is_divisible(self, name: BlockHash) -> bool:
        return self.blocks[name].divisible

    def tails(self, parent: BlockHash) -> Sequence[int]:
        children = [self.blocks[name] for name, above in self.parents.items() if above == parent]
        lengths = {len(block.token_ids) for block in children}
        return sorted((length for length in lengths if length < BLOCK_TOKENS), reverse=True)

    def children(self, parent: BlockHash, divisible: bool = False) -> Sequence[tuple[BlockHash, tuple[int, ...]]]:
        names = [name for name, above in self.parents.items() if above == parent]
        return [(name, self.blocks[name].token_ids) for name in names if self.blocks[name].divisible or not divisible]

    def fetch(self, names: Sequence[BlockHash]) -> None:
        self.fetching += [name for name in names if name not in self.asked]
        self.asked.update(names)

    def is_fetching(self, names: Sequence[BlockHash]) -> bool:
        return any(name in self.fetching for name in names)

    def read(self, name: BlockHash) -> Block | None:
        if name in self.broken:
            del self.blocks[name], self.parents[name]
            self.broken.discard(name)
            return None
        return self.blocks.get(name)

    def write(self, name: BlockHash, parent: BlockHash, token_ids: Sequence[int], payload: Block) -> bool:
        assert token_ids == payload.token_ids
        if self.full:
            return False
        self.blocks[name], self.parents[name] = payload, parent
        return True

    def has_room(self, may_wait: bool = True) -> bool:  # noqa: ARG002
        return True

    def used(self, names: Sequence[BlockHash]) -> Sequence[BlockHash]:  # noqa: ARG002
        return ()

    def close(self) -> None:
        self.closed = True


def save_all(cache: PrefixCache[Block]) -> None:
    while cache.save_one():
        pass


def shelf_with(num_tokens: int, divisible: bool = True) -> Shelf:
    """What another memory has saved of so many tokens: 0, 1, 2 and so on."""
    shelf = Shelf()
    cache = PrefixCache("m", 1000, shelf)
    remember(cache, list(range(num_tokens)), divisible=divisible)
    save_all(cache)
    return shelf


@pytest.mark.parametrize("length", [1, 200, 256, 512, 700])
@pytest.mark.parametrize("divisible", [True, False])
def test_a_new_memory_finds_what_the_old_one_saved(length: int, divisible: bool):
    shelf = shelf_with(length, divisible)
    new = PrefixCache("m", 1000, shelf)
    longer = list(range(length + 50))
    assert found(new, longer) == length
    again = PrefixCache("m", 1000, shelf)
    full_blocks = (length - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    expected = length - 1 if divisible else full_blocks
    assert found(again, list(range(length))) == expected


@pytest.mark.parametrize("length", [3, 213, 256, 258, 300, 512, 700])
def test_a_prompt_asked_again_word_for_word_goes_on_from_the_last_state_before_its_end(length: int):
    shelf = Shelf()
    old = PrefixCache("m", 1000, shelf)
    for end in (length - 2, length):
        remember(old, list(range(end)), divisible=False)
    save_all(old)
    assert found(PrefixCache("m", 1000, shelf), list(range(length))) == length - 2


@pytest.mark.parametrize("divisible", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_as_much_is_found_below_as_was_found_in_memory(seed: int, divisible: bool):
    dice = random.Random(seed)
    shelf = Shelf()
    old = PrefixCache("m", 100_000, shelf)
    stems = [[dice.randrange(3) for _ in range(800)] for _ in range(3)]
    for _ in range(40):
        stem = dice.choice(stems)[: dice.randrange(1, 800)]
        remember(old, stem, divisible=divisible, resumable=divisible or dice.random() < 0.7)
    save_all(old)
    for stem in stems:
        for length in (*range(1, 800, 37), 255, 256, 257, 511, 512, 513):
            for prompt in (stem[:length], [*stem[:length], 9, 9]):
                match, again = PrefixCache("m", 100_000, shelf).match(prompt), old.match(prompt)
                assert found(PrefixCache("m", 100_000, shelf), prompt) == match.num_tokens == again.num_tokens, length
                assert (match.miss, match.miss_token) == (again.miss, again.miss_token), length


def test_what_the_tier_below_has_of_a_prompt_comes_up_block_by_block_as_it_is_read():
    shelf = shelf_with(700)
    new = PrefixCache("m", 1000, shelf)
    coming = new.fetch(list(range(720)))
    assert not next(coming)
    assert [shelf.blocks[name].token_ids[0] for name in shelf.fetching] == [0, 256, 512]
    del shelf.fetching[0]
    assert [next(coming), next(coming)] == [True, False]
    assert new.nbytes == 10
    shelf.fetching.clear()
    assert list(coming) == [True, True]
    assert [new.match(list(range(720))).num_lower_tokens for _ in range(2)] == [700, 0]
    assert not list(new.fetch([5000, 5001]))
    assert not shelf.fetching


def test_who_begins_a_fetch_waits_for_no_block_even_where_none_is_under_way():
    shelf = shelf_with(700)
    shelf.asked.update(shelf.blocks)
    new = PrefixCache("m", 1000, shelf)
    assert not next(new.fetch(list(range(720))))
    assert new.nbytes == 0


def test_of_a_long_prompt_a_few_blocks_at_a_time_are_asked_for():
    shelf = shelf_with(20 * BLOCK_TOKENS)
    coming = PrefixCache("m", 1000, shelf).fetch(list(range(21 * BLOCK_TOKENS)))
    next(coming)
    assert len(shelf.fetching) == 8
    shelf.fetching.clear()
    next(coming)
    next(coming)
    assert len(shelf.fetching) == 1


def test_what_had_to_leave_while_the_rest_was_read_is_left_to_whoever_wants_it():
    shelf = shelf_with(700)
    new = PrefixCache("m", 1000, shelf)
    coming = new.fetch(list(range(720)))
    next(coming)
    shelf.fetching.clear()
    next(coming)
    new.bound(0)
    assert not list(coming)
    new.check()
    new.bound(1000)
    assert found(new, list(range(720))) == 700


@pytest.mark.parametrize("seed", range(10))
def test_prompts_that_come_up_together_into_little_memory_leave_the_books_right(seed: int):
    dice = random.Random(seed)
    shelf = Shelf()
    cache = PrefixCache("m", 60, shelf)
    stems = [[dice.randrange(3) for _ in range(800)] for _ in range(3)]
    coming: list[Iterator[bool]] = []
    for _ in range(300):
        prompt = dice.choice(stems)[: dice.randrange(1, 800)]
        match dice.randrange(5):
            case 0:
                remember(cache, prompt)
            case 1:
                coming.append(cache.fetch(prompt))
            case 2 if coming:
                next(coming[dice.randrange(len(coming))], None)
                del shelf.fetching[: dice.randrange(3)]
            case 3:
                cache.bound(dice.choice([0, 30, 60]))
            case _:
                match = cache.match(prompt)
                held = [token for block in match.payloads for token in block.token_ids]
                assert held[: match.num_tokens] == prompt[: match.num_tokens]
        cache.check()


def test_what_two_requests_use_goes_down_first():
    shelf = Shelf()
    cache = PrefixCache("m", 1000, shelf)
    remember(cache, list(range(512)))
    found(cache, list(range(600)))
    remember(cache, list(range(10_000, 12_048)))
    assert not shelf.blocks  # nobody is kept waiting for it
    cache.save_one()
    cache.save_one()
    assert [block.token_ids[0] for block in shelf.blocks.values()] == [0, 256]


def test_what_memory_has_no_room_for_goes_down_and_comes_up_again():
    shelf = Shelf()
    cache = PrefixCache("m", 30, shelf)
    for start in (0, 10_000, 20_000):
        remember(cache, list(range(start, start + 512)))
    assert cache.nbytes <= 30
    assert found(cache, list(range(600))) == 512


def test_a_tier_that_takes_nothing_changes_nothing():
    cache = PrefixCache("m", 1000, Shelf(full=True))
    remember(cache, list(range(512)))
    save_all(cache)
    assert found(cache, list(range(600))) == 512


def test_of_a_block_that_is_used_in_part_only_that_part_counts_as_read():
    shelf = shelf_with(700)
    new = PrefixCache("m", 1000, shelf)
    assert new.match([*range(500), 5000, 5001]).num_lower_tokens == 500
    match = new.match([*range(590), 5000, 5001])
    assert (match.num_tokens, match.num_lower_tokens) == (590, 78)
    assert new.match([*range(590), 5000, 5001]).num_lower_tokens == 0


def test_a_shorter_end_below_is_not_read_where_memory_has_more():
    shelf = Shelf()
    cache = PrefixCache("m", 1000, shelf)
    for length in (300, 400):
        remember(cache, list(range(length)))
        save_all(cache)
    assert not list(cache.fetch([*range(400), 5000, 5001]))
    assert not shelf.fetching


def test_what_memory_has_no_room_to_bring_up_was_pushed_out():
    shelf = shelf_with(700)
    match = PrefixCache("m", 20, shelf).match(list(range(900)))
    assert (match.num_tokens, match.miss, match.miss_token) == (512, Miss.EVICTED, 700)


def test_what_cannot_be_resumed_from_is_not_read():
    shelf = Shelf()
    cache = PrefixCache("m", 1000, shelf)
    remember(cache, list(range(512)), divisible=False, resumable=False)
    save_all(cache)
    new = PrefixCache("m", 1000, shelf)
    assert found(new, list(range(600))) == 0
    assert new.nbytes == 0


def test_closing_closes_the_tier():
    shelf = Shelf()
    PrefixCache("m", 1000, shelf).close()
    assert shelf.closed


def test_what_is_only_in_memory_is_saved_at_the_end_while_there_is_time():
    shelf = Shelf()
    cache = PrefixCache("m", 1000, shelf)
    remember(cache, list(range(1024)))
    time_left = iter([True, True, False])
    cache.close(lambda: next(time_left))
    assert len(shelf.blocks) == 2
    assert found(PrefixCache("m", 1000, shelf), list(range(1100))) == 512


@pytest.mark.parametrize("divisible", [True, False])
def test_random_use_over_a_failing_tier_never_finds_a_wrong_token(divisible: bool):
    dice = random.Random(9)
    shelf = Shelf()
    cache = PrefixCache("m", 150, shelf)
    stems = [[dice.randrange(3) for _ in range(800)] for _ in range(4)]
    for _ in range(300):
        stem = dice.choice(stems)[: dice.randrange(1, 800)]
        prompt = [*stem, *(dice.randrange(3) for _ in range(dice.randrange(40)))]
        shelf.full = dice.random() < 0.2
        if shelf.blocks and dice.random() < 0.3:
            shelf.broken.add(dice.choice(list(shelf.blocks)))
        match = cache.match(prompt)
        assert match.num_tokens < len(prompt)
        held = [token for block in match.payloads for token in block.token_ids]
        assert held[: match.num_tokens] == prompt[: match.num_tokens]
        remember(cache, prompt, divisible=divisible)
        assert cache.nbytes <= 150
        if dice.random() < 0.3:
            cache.save_one()
        if dice.random() < 0.05:
            cache = PrefixCache("m", 150, shelf)
