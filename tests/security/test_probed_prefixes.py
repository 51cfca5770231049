"""Who holds one key and guesses requests of another's learns nothing of what is cached for that one: not from what is
found, not from what is used, not from the clock."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log, sqrt
from pathlib import Path
from time import perf_counter

from msgspec.structs import replace

from omlx.server.cache.blocks import BlockHash, root_hash
from omlx.server.cache.prefix_cache import Miss, PrefixCache
from omlx.server.engine.engine import Engine
from omlx.server.engine.grammar import GrammarCompiler
from omlx.server.engine.messages import Submit
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.requests import Json, JsonSchema

from ..cache.test_prefix_cache import Block, found, remember
from ..cache.test_two_tiers import Shelf, save_all
from ..engine.driving import Answer, make_engine, step
from ..engine.grammar_model import grammar_of
from ..engine.test_drafted_kinds import small_tokenizer
from ..engine.tiny_model import GREEDY, VOCABULARY, make_batch, tiny_llama

ALICE, BOB = "a namespace", "another one"
TOKENS = 300
FEW = 8
"""Requests at a time, so that what Alice had compiled is still there when Bob has guessed as many grammars twice."""


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

    def used(self, names: Sequence[BlockHash]) -> Sequence[BlockHash]:
        self.touched.update(names)
        return super().used(names)


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


def test_the_time_to_the_first_token_tells_nothing_of_another_keys_requests(tmp_path: Path):
    """Of prompts and grammars that another key has asked with, and of such that nobody has, in random order, so that
    what else the machine does slows both down. A suspicion, which one run in ten has by chance, is decided by three
    times as many: both are for nothing in one run of 10,000, and what leaks 0.3, 0.4 or 0.5 of the times' own
    deviation (normal ones, simulated) is found in 70, 95 or 99 of 100.
    """
    if tells_something(seconds_of(200, tmp_path), chance=0.1):
        assert not tells_something(seconds_of(600, tmp_path), chance=0.001)


def tells_something(seconds: dict[str, list[float]], chance: float) -> bool:
    """Whether the times of the known and the unknown differ as they do with this chance only, or the clock tells
    nothing even of one's own."""
    limit = critical_distance(len(seconds["known"]), len(seconds["unknown"]), chance)
    clock_tells = distance(seconds["own"], seconds["known"]) > limit
    return not clock_tells or distance(seconds["known"], seconds["unknown"]) > limit


def seconds_of(num_requests: int, folder: Path) -> dict[str, list[float]]:
    """Seconds to the first token: Alice's of what she asks again, Bob's of what only she has asked, and of what nobody
    has, so many of each."""
    dice = random.Random(num_requests)
    engine = constrained_engine(folder)
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(num_requests // FEW):
        alices, nobodys = ([some_request(dice) for _ in range(FEW)] for _ in range(2))
        for request in alices:
            ask(engine, request, ALICE)
        asked = [("own", each, ALICE) for each in alices]
        asked += [(kind, each, BOB) for kind, several in (("known", alices), ("unknown", nobodys)) for each in several]
        dice.shuffle(asked)
        for kind, request, namespace in asked:
            took, num_cached = ask(engine, request, namespace)
            seconds[kind].append(took)
            few = num_cached < 16  # the first tokens of another prompt of one's own may be the same
            assert few if namespace == BOB else num_cached == TOKENS - 1
    return seconds


def constrained_engine(folder: Path) -> Engine:
    small_tokenizer().save(str(folder / "tokenizer.json"))
    batch = make_batch(tiny_llama(), max_bytes=1 << 28)
    batch._grammars = GrammarCompiler(folder / "tokenizer.json", VOCABULARY)
    return make_engine(batch, SchedulerLimits(max_chunk=256))


def some_request(dice: random.Random) -> Submit:
    """As a client's that offers tools: a prompt, and what an answer to it is held to."""
    names = [f"a{dice.randrange(10**9)}" for _ in range(30)]
    schema: dict[str, Json] = {"type": "object", "properties": {name: {"type": "integer"} for name in names}}
    prompt = dice.choices(range(VOCABULARY), k=TOKENS)
    return Submit("r", prompt, 1, sampling=GREEDY, grammar=grammar_of(JsonSchema(schema)))


def ask(engine: Engine, request: Submit, namespace: str) -> tuple[float, int]:
    """The seconds that the first token takes, and how many of the prompt's were cached."""
    answers: dict[str, Answer] = {}
    started = perf_counter()
    engine.submit(replace(request, cache_salt=namespace))
    while engine.has_work:
        step(engine, answers)
    return perf_counter() - started, answers["r"].last.num_cached_tokens


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
