"""Who holds one key and guesses prompts of another's learns nothing of what is cached for that one: not from what is
found, not from what is used, not from the clock."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log, sqrt
from time import perf_counter

from omlx.server.cache.blocks import BlockHash, root_hash
from omlx.server.cache.prefix_cache import Miss, PrefixCache
from omlx.server.engine.engine import Engine
from omlx.server.engine.messages import Submit
from omlx.server.engine.scheduler import SchedulerLimits

from ..cache.test_prefix_cache import Block, found, remember
from ..cache.test_two_tiers import Shelf, save_all
from ..engine.driving import drain, make_engine
from ..engine.tiny_model import GREEDY, VOCABULARY, make_batch, tiny_llama

ALICE, BOB = "a namespace", "another one"
PROBES = 200
TOKENS = 300


@dataclass
class WatchedShelf(Shelf):
    """Knows of which blocks, and of what follows which, it was asked anything."""

    touched: set[BlockHash] = field(default_factory=set)

    def holds(self, name: BlockHash) -> bool:
        self.touched.add(name)
        return super().holds(name)

    def tails(self, parent: BlockHash) -> Sequence[int]:
        self.touched.add(parent)
        return super().tails(parent)

    def children(self, parent: BlockHash, divisible: bool = False) -> Sequence[tuple[BlockHash, tuple[int, ...]]]:
        self.touched.add(parent)
        return super().children(parent, divisible)

    def fetch(self, names: Sequence[BlockHash]) -> None:
        self.touched.update(names)

    def read(self, name: BlockHash) -> Block | None:
        self.touched.add(name)
        return super().read(name)

    def used(self, names: Sequence[BlockHash]) -> None:
        self.touched.update(names)


def test_a_guess_finds_nothing_and_touches_no_block_of_the_other_key():
    shelf = WatchedShelf()
    here, below = list(range(700)), list(range(5000, 5700))
    before, cache = PrefixCache("m", 1000, shelf), PrefixCache("m", 1000, shelf)
    for each, prompt in ((before, below), (cache, here)):
        remember(each, prompt, ALICE)
        save_all(each)
    alices, in_order = {root_hash("m", ALICE), *shelf.blocks}, list(cache._recent)
    shelf.touched.clear()
    for guess in (here, here[:300], [*here[:256], 1, 2], below, below[:300], here[:1]):
        assert cache.peek(guess, BOB) == 0
        assert not list(cache.fetch(guess, BOB))
        match = cache.match(guess, BOB)
        told = match.num_tokens, match.num_lower_tokens, match.payloads, match.miss, match.miss_token
        assert told == (0, 0, (), Miss.EMPTY if len(guess) > 1 else Miss.NONE, 0)
    assert not shelf.touched & alices
    assert list(cache._recent) == in_order
    assert found(cache, here, ALICE) == 699
    assert found(cache, below, ALICE) == 699
    assert shelf.touched & alices, "the owner's prompt is looked up there"
    assert list(cache._recent) != in_order


def test_the_time_to_the_first_token_tells_nothing_of_another_keys_prompts():
    """Of 200 prompts that are cached for another key and of 200 that nobody has asked, in random order, so that what
    else the machine does slows both down. What leaks shows each time; two more series are for the one in a hundred in
    which nothing looks like something, and for a machine on which the clock tells nothing of one's own prompts either.
    """
    for number in range(3):
        seconds = series(number)
        clock_tells = distance(seconds["own"], seconds["known"]) > critical_distance(PROBES, PROBES)
        if clock_tells and distance(seconds["known"], seconds["unknown"]) <= critical_distance(PROBES, PROBES):
            return
    raise AssertionError("what nobody has asked takes another time, or the clock never told anything")


def series(number: int) -> dict[str, list[float]]:
    """Seconds to the first token: Alice's of what she asks again, Bob's of what only she has asked, and of what nobody
    has."""
    dice = random.Random(number)
    engine = make_engine(make_batch(tiny_llama(), max_bytes=1 << 27), SchedulerLimits(max_chunk=256))
    alices, nobodys = ([dice.choices(range(VOCABULARY), k=TOKENS) for _ in range(PROBES)] for _ in range(2))
    for prompt in alices:
        ask(engine, prompt, ALICE)
    asked = [
        (kind, prompt, namespace)
        for kind, prompts, namespace in (("own", alices, ALICE), ("known", alices, BOB), ("unknown", nobodys, BOB))
        for prompt in prompts
    ]
    dice.shuffle(asked)
    seconds: dict[str, list[float]] = defaultdict(list)
    for kind, prompt, namespace in asked:
        took, num_cached = ask(engine, prompt, namespace)
        seconds[kind].append(took)
        few = num_cached < 16  # the first tokens of another prompt of one's own may be the same
        assert few if namespace == BOB else num_cached == TOKENS - 1
    return seconds


def ask(engine: Engine, prompt: list[int], namespace: str) -> tuple[float, int]:
    """The seconds that the first token takes, and how many of the prompt's were cached."""
    started = perf_counter()
    engine.submit(Submit("r", prompt, 1, sampling=GREEDY, cache_salt=namespace))
    answer = drain(engine)["r"]
    return perf_counter() - started, answer.last.num_cached_tokens


def distance(left: Sequence[float], right: Sequence[float]) -> float:
    """Kolmogorov and Smirnov's: the most by which the shares of both that are below one value differ."""
    points = sorted([*left, *right])
    return max(
        abs(sum(value <= point for value in left) / len(left) - sum(value <= point for value in right) / len(right))
        for point in points
    )


def critical_distance(num_left: int, num_right: int, chance: float = 0.01) -> float:
    """Two samples of one distribution are farther apart with this chance only: Smirnov's limit 2 exp(-2 x²) of the
    chance that the distance passes x sqrt(1/m + 1/n), without its smaller terms (Annals of Mathematical Statistics 19,
    1948, pages 279 to 281)."""
    return sqrt(-log(chance / 2) / 2 * (1 / num_left + 1 / num_right))


def test_the_distance_and_its_limit_are_those_of_the_tables():
    assert distance([1, 2, 3], [1, 2, 3]) == 0
    assert distance([1, 2, 3], [4, 5, 6]) == 1
    assert distance([1, 2, 3, 4], [3, 4, 5, 6]) == 0.5
    assert round(critical_distance(200, 200), 3) == 0.163  # 1.63 sqrt((m + n) / mn), as tables of it say
    assert round(critical_distance(100, 50, 0.05), 3) == 0.235
