"""The tree of blocks: what is found, what is forgotten first, and that the bound holds."""

from __future__ import annotations

import hashlib
import random
from array import array
from dataclasses import dataclass

import pytest

from omlx.server.cache.blocks import block_hash, root_hash
from omlx.server.cache.prefix_cache import Miss, PrefixCache


@dataclass(frozen=True)
class Block:
    """A payload that remembers which tokens it stands for."""

    token_ids: tuple[int, ...]
    nbytes: int = 10
    divisible: bool = True
    resumable: bool = True


def remember(cache: PrefixCache[Block], token_ids: list[int], salt: str = "", **kind) -> None:
    spans = cache.missing(token_ids, salt, resumable=True)
    cache.insert(token_ids, spans, [Block(tuple(token_ids[start:stop]), **kind) for start, stop in spans], salt)


def found(cache: PrefixCache[Block], token_ids: list[int], salt: str = "") -> int:
    """The length of the match, after a look at whether its payloads really hold those tokens."""
    match = cache.match(token_ids, salt)
    held = [token for block in match.payloads for token in block.token_ids]
    assert held[: match.num_tokens] == token_ids[: match.num_tokens]
    assert match.num_tokens == cache.peek(token_ids, salt)
    return match.num_tokens


def test_an_empty_cache_finds_nothing():
    assert found(PrefixCache("m", 1000), [1, 2, 3]) == 0


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 512, 700])
def test_the_same_prompt_is_found_but_for_one_token(length: int):
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(length)))
    assert found(cache, list(range(length))) == length - 1


@pytest.mark.parametrize("common", [0, 1, 100, 256, 300, 511, 512, 690])
def test_a_branch_is_found_to_the_token(common: int):
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(700)))
    assert found(cache, [*range(common), *range(5000, 5100)]) == common


@pytest.mark.parametrize(("length", "expected"), [(600, 512), (601, 600), (700, 600), (500, 256)])
def test_what_cannot_be_divided_is_found_only_at_its_ends(length: int, expected: int):
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(600)), divisible=False)
    assert found(cache, list(range(length))) == expected


def test_a_block_without_a_state_is_passed_through_but_not_resumed_from():
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(512)), divisible=False, resumable=False)
    assert found(cache, list(range(600))) == 0
    remember(cache, list(range(550)), divisible=False)
    assert found(cache, list(range(600))) == 550
    assert found(cache, list(range(540))) == 0
    remember(cache, list(range(512)), divisible=False)
    assert found(cache, list(range(540))) == 512


def test_salts_and_identities_share_nothing():
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(300)), salt="a")
    assert found(cache, list(range(300)), salt="b") == 0
    assert found(cache, list(range(300)), salt="a") == 299


def test_a_longer_tail_takes_the_place_of_the_shorter():
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(20)))
    remember(cache, list(range(90)))
    assert cache.nbytes == 10
    remember(cache, list(range(300)))
    assert cache.nbytes == 20
    assert cache.missing(list(range(90))) == []


def test_only_what_is_missing_is_asked_for():
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(600)))
    assert cache.missing(list(range(900))) == [(512, 768), (768, 900)]
    assert cache.missing(list(range(600))) == []


def test_the_bound_in_bytes_always_holds_and_the_least_used_goes_first():
    cache: PrefixCache[Block] = PrefixCache("m", 60)
    remember(cache, list(range(512)))
    remember(cache, list(range(10_000, 10_512)))
    assert found(cache, list(range(600))) == 512
    remember(cache, list(range(20_000, 20_768)))
    assert cache.nbytes == 60
    assert found(cache, list(range(600))) == 512
    assert found(cache, list(range(10_000, 10_600))) == 256  # its end was let go, its start was not


def test_a_payload_larger_than_the_bound_is_not_kept():
    cache: PrefixCache[Block] = PrefixCache("m", 5)
    remember(cache, list(range(300)))
    assert cache.nbytes == 0
    assert found(cache, list(range(300))) == 0


@pytest.mark.parametrize("divisible", [True, False])
def test_random_use_keeps_the_bound_and_never_finds_a_wrong_token(divisible: bool):
    dice = random.Random(5)
    cache: PrefixCache[Block] = PrefixCache("m", 200)
    stems = [[dice.randrange(3) for _ in range(800)] for _ in range(4)]
    for _ in range(300):
        prompt = [
            *dice.choice(stems)[: dice.randrange(1, 800)],
            *(dice.randrange(3) for _ in range(dice.randrange(40))),
        ]
        assert found(cache, prompt) < len(prompt)
        remember(cache, prompt, divisible=divisible)
        assert cache.nbytes <= 200


def why(cache: PrefixCache[Block], token_ids: list[int], salt: str = "") -> Miss:
    return cache.match(token_ids, salt).miss


def test_a_match_says_why_it_is_not_longer():
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    assert why(cache, list(range(700))) is Miss.EMPTY
    remember(cache, list(range(700)))
    assert why(cache, list(range(700))) is Miss.NONE
    assert why(cache, list(range(900))) is Miss.LONGER
    assert why(cache, [*range(300), *range(5000, 5600)]) is Miss.DIFFERS
    assert why(cache, list(range(5000, 5600))) is Miss.DIFFERS
    assert why(cache, list(range(700)), "another key") is Miss.EMPTY


def test_a_prompt_that_follows_whole_blocks_goes_on_from_there():
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(512)))
    assert why(cache, list(range(900))) is Miss.LONGER


def test_a_match_that_stops_short_of_what_is_the_same_says_that_the_layers_cannot_go_on_there():
    cache: PrefixCache[Block] = PrefixCache("m", 1000)
    remember(cache, list(range(600)), divisible=False)
    assert why(cache, [*range(560), *range(5000, 5100)]) is Miss.NOT_RESUMABLE


def test_a_match_that_misses_what_was_pushed_out_says_so():
    cache: PrefixCache[Block] = PrefixCache("m", 20)
    remember(cache, list(range(512)))
    remember(cache, list(range(5000, 5256)))
    assert found(cache, list(range(600))) == 256
    assert why(cache, list(range(600))) is Miss.EVICTED
    assert cache.num_evicted > 0


def test_a_salt_is_forgotten_with_its_last_block():
    cache: PrefixCache[Block] = PrefixCache("m", 50)
    for number in range(1000):
        remember(cache, [1, 2, 3], salt=f"key {number}")
        assert found(cache, [1, 2, 3, 4], salt=f"key {number}") == 3
        cache.check()
    assert len(cache._roots) <= 5


def test_a_lower_bound_lets_the_oldest_go_and_a_higher_one_is_no_more_than_the_own():
    cache: PrefixCache[Block] = PrefixCache("m", 30)
    for start in (0, 1000, 2000):
        remember(cache, list(range(start, start + 100)))
    cache.bound(20)
    assert cache.nbytes == 20
    assert [found(cache, list(range(start, start + 100))) for start in (0, 1000, 2000)] == [0, 99, 99]
    cache.bound(1000)
    for start in (3000, 4000):
        remember(cache, list(range(start, start + 100)))
    assert cache.nbytes == 30
    cache.check()


def test_a_blocks_name_is_a_sha256_of_all_before_it():
    root = root_hash("model", "salt")
    first = block_hash(root, [1, 2])
    assert first == hashlib.sha256(root + array("I", [1, 2]).tobytes()).digest()
    assert len({root, root_hash("model", "sal"), root_hash("modelsalt"), root_hash("model"), first}) == 5
    assert len({block_hash(first, [3]), block_hash(root, [1, 2, 3]), block_hash(root, [3])}) == 3
