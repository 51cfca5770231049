"""Answers after a hit are the cold ones, at every length a prompt can be cut at.

    python -m tests.torture.warm --seeds 1 2 3

A prompt of random tokens is asked up to a cut, and then up to the cut with another end. What the second request is
answered must be what an engine without a cache answers: the same tokens, with the same log probabilities. It is asked
where the first one's state lies in memory; where memory has room for one of two prompts, so that they come from the
disk in turns; and after a restart, beside a row that decodes.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.messages import Submit, TokenLogprob
from omlx.server.engine.mlx_batch import MlxBatch

from ..cache.models import MODELS
from ..engine.driving import Answer, drain, make_engine, step
from ..engine.tiny_model import GREEDY, VOCABULARY, make_batch

KINDS = ("full attention", "sliding window", "Qwen3.5 hybrid", "DeepSeek V4")
LENGTH = 530
"""Two blocks of the prefix cache and a little, and four windows of DeepSeek V4's widest."""
_TOLERANCE = 1e-4
"""Of a log probability, in float32: what is computed in other pieces is rounded differently."""
_TOKENS = 4
_ROOM = 1 << 28


@dataclass(slots=True)
class Found:
    """Counts by where the prefixes lay: `answers` compared, `hits` that reached to the cut, and those of them for
    which something was `read` from the disk. `wrong` says which answers were not the cold ones."""

    answers: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Answer:
    tokens: list[TokenLogprob]
    num_cached: int
    num_disk: int

    def is_as(self, cold: _Answer) -> bool:
        pairs = list(zip(self.tokens, cold.tokens, strict=True))
        same = all(warm.token_id == token.token_id for warm, token in pairs)
        return same and all(abs((warm.logprob or 0) - (token.logprob or 0)) < _TOLERANCE for warm, token in pairs)


@dataclass(frozen=True, slots=True)
class _Case:
    """A prompt up to its cut, another end of it, and what both together are answered without a cache."""

    prompt: list[int]
    end: list[int]
    cold: _Answer

    @classmethod
    def of(cls, prompt: list[int], chance: random.Random, alone: MlxBatch) -> _Case:
        end = [chance.randrange(VOCABULARY) for _ in range(chance.randrange(1, 9))]
        return cls(prompt, end, _ask(alone, [*prompt, *end]))


def edges(length: int) -> list[int]:
    """Every length beside or on a multiple of 4, which those of 128 are too."""
    return [cut for cut in range(3, length) if cut % 4 != 2]


def warm(kind: str, folder: Path, cuts: Sequence[int], seed: int) -> Found:
    """Cut two random prompts at `cuts`, in random order, and compare what is answered warm and cold."""
    chance, model, found = random.Random(seed), MODELS[kind](), Found()
    prompts = [[chance.randrange(VOCABULARY) for _ in range(LENGTH)] for _ in range(2)]
    alone = _batch(model, 0)
    cases = [_Case.of(prompt[:cut], chance, alone) for prompt in prompts for cut in cuts]

    def compare(where: str, batch: MlxBatch, case: _Case) -> None:
        answer = _ask(batch, [*case.prompt, *case.end], beside=where == "restart")
        found.answers[where] += 1
        found.hits[where] += answer.num_cached >= len(case.prompt)
        found.read[where] += answer.num_disk > 0
        if not answer.is_as(case.cold):
            place = f"cut at {len(case.prompt)}, {answer.num_cached} tokens cached, {answer.num_disk} of them on disk"
            found.wrong.append(f"{kind}, seed {seed}, {where}: {place}")

    def shuffled() -> list[_Case]:
        return chance.sample(cases, len(cases))

    memory = _batch(model, _ROOM)
    for case in shuffled():
        _ask(memory, case.prompt)
        compare("memory", memory, case)
    for where, room in (("disk", _room_for_one(model, prompts[0])), ("restart", _ROOM)):
        batch = _batch(model, room, folder / where)
        for case in shuffled():
            _ask(batch, case.prompt)
            while batch.idle():
                pass
        if where == "restart":
            batch.close()
            batch = _batch(model, room, folder / where)
        for case in shuffled():
            compare(where, batch, case)
        batch.close()
    return found


def _batch(model: nn.Module, max_bytes: int, disk: Path | None = None) -> MlxBatch:
    layout = choose_layout(model, lambda: make_prompt_cache(model)).layout
    return make_batch(model, layout, max_bytes, disk)


def _room_for_one(model: nn.Module, prompt: list[int]) -> int:
    """Bytes that hold what one request leaves, and no more."""
    batch = _batch(model, _ROOM)
    _ask(batch, prompt)
    return batch.memory().cache_bytes


_numbers = itertools.count()


def _ask(batch: MlxBatch, prompt: list[int], beside: bool = False) -> _Answer:
    """With `beside`, a row decodes, and what comes from the disk comes between its steps."""
    name, other = str(next(_numbers)), str(next(_numbers))
    engine, answers = make_engine(batch), dict[str, Answer]()
    if beside:
        engine.submit(Submit(other, [1, 2, 3], 1000, sampling=GREEDY, without_drafters=["ngram"]))
        while not answers or not answers[other].token_ids:
            step(engine, answers)
    engine.submit(Submit(name, prompt, _TOKENS, sampling=GREEDY, logprobs=0, without_drafters=["ngram"]))
    while name not in answers or answers[name].last.finish_reason is None:
        step(engine, answers)
    engine.cancel(other)
    drain(engine)
    updates = answers[name].updates
    tokens = [token for update in updates for token in update.logprobs]
    return _Answer(tokens, updates[-1].num_cached_tokens, max(update.num_disk_tokens for update in updates))


def rows(seeds: Sequence[int]) -> Iterator[str]:
    for kind in KINDS:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as name:
                found = warm(kind, Path(name), edges(LENGTH), seed)
            for where, count in found.answers.items():
                wrong = sum(f", {where}:" in line for line in found.wrong)
                hits, read = found.hits[where], found.read[where]
                yield f"| {kind} | {seed} | {where} | {count} | {hits} | {read} | {wrong} |"
            yield from found.wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    print("| model | seed | prefix from | answers | warm to the cut | read from disk | wrong |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for row in rows(parser.parse_args().seeds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
