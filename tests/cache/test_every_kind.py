"""What must hold for every kind of cache: resumed, from memory or from disk, is the same as computed."""

from __future__ import annotations

import random
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.cache.codec import CacheCodec, evaluate
from omlx.server.cache.tensor_file import DamagedFile
from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.scheduler import SchedulerLimits

from ..engine.driving import drain, make_engine, step
from ..engine.tiny_model import greedy_solo, make_batch, prompt_of, submit
from .models import MODELS

PROMPT = prompt_of(600)
GRID = SchedulerLimits(max_chunk=256)


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> nn.Module:
    return MODELS[request.param]()


def feed(model: nn.Module, caches: list, start: int, stop: int, chunk: int = 256) -> mx.array:
    logits = mx.zeros(0)
    while start < stop:
        end = min(stop, (start // chunk + 1) * chunk)
        logits = model(mx.array([PROMPT[start:end]]), cache=caches)[:, -1]
        evaluate(caches)
        start = end
    return logits


@pytest.mark.parametrize("chunk", [37, 600])
def test_any_chunking_gives_what_the_grid_gives(model: nn.Module, chunk: int):
    expected = feed(model, make_prompt_cache(model), 0, 600)
    found = feed(model, make_prompt_cache(model), 0, 600, chunk)
    assert mx.allclose(expected, found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize("position", [256, 512])
def test_resumed_on_the_grid_is_computed_bit_for_bit(model: nn.Module, position: int, through_a_file: bool):
    codec = CacheCodec(lambda: make_prompt_cache(model))
    caches = make_prompt_cache(model)
    payloads = []
    for start in range(0, position, 256):
        feed(model, caches, start, start + 256)
        payloads += codec.cut(caches, [(start, start + 256)], snapshot=True)
    expected = feed(model, caches, position, 600)
    if through_a_file:
        raw = [codec.encode(payload) for payload in payloads]
        payloads = [codec.decode(block) for block in raw if block is not None]
    restored = codec.restore(payloads, position, 600)
    assert mx.array_equal(feed(model, restored, position, 600), expected).item()


def test_a_block_does_not_change_when_the_sequence_goes_on(model: nn.Module):
    codec = CacheCodec(lambda: make_prompt_cache(model))
    caches = make_prompt_cache(model)
    feed(model, caches, 0, 256)
    payloads = codec.cut(caches, [(0, 256)], snapshot=True)
    before = codec.encode(payloads[0])
    resumed = codec.restore(payloads, 256, 600)
    for going_on in (caches, resumed):
        feed(model, going_on, 256, 600)
        feed(model, going_on, 0, 20, chunk=1)
    assert codec.encode(payloads[0]) == before


def test_a_block_is_as_large_late_in_a_prompt_as_early(model: nn.Module):
    codec = CacheCodec(lambda: make_prompt_cache(model))
    caches = make_prompt_cache(model)
    feed(model, caches, 0, 256)
    (early,) = codec.cut(caches, [(0, 256)], snapshot=True)
    feed(model, caches, 256, 512)
    (late,) = codec.cut(caches, [(256, 512)], snapshot=True)
    assert early.nbytes == late.nbytes


def test_a_file_of_a_model_with_other_layers_is_refused(model: nn.Module):
    codec = CacheCodec(lambda: make_prompt_cache(model))
    caches = make_prompt_cache(model)
    feed(model, caches, 0, 256)
    raw = codec.encode(codec.cut(caches, [(0, 256)], snapshot=True)[0])
    assert raw is not None
    shorter = CacheCodec(lambda: make_prompt_cache(model)[1:])
    with pytest.raises(DamagedFile):
        shorter.decode(raw)


def test_warm_from_memory_from_disk_and_after_a_restart_writes_the_same(model: nn.Module, tmp_path: Path):
    expected = greedy_solo(model, PROMPT, 8)
    first = make_batch(model, choose_layout(model, lambda: make_prompt_cache(model)).layout, disk=tmp_path)
    engine = make_engine(first, GRID)
    cached = {}
    for name in ("cold", "memory"):
        engine.submit(submit(name, PROMPT))
        answer = drain(engine)[name]
        assert answer.token_ids == expected
        cached[name] = answer.last.num_cached_tokens
    while first.idle():
        pass
    first.close()
    second = make_batch(model, choose_layout(model, lambda: make_prompt_cache(model)).layout, disk=tmp_path)
    engine = make_engine(second, GRID)
    engine.submit(submit("restarted", PROMPT))
    answer = drain(engine)["restarted"]
    second.close()
    assert answer.token_ids == expected
    assert cached["cold"] == 0
    assert cached["memory"] >= 512
    assert answer.last.num_cached_tokens >= 512


def test_a_conversation_goes_on_after_a_restart_where_it_stood(model: nn.Module, tmp_path: Path):
    first = make_batch(model, choose_layout(model, lambda: make_prompt_cache(model)).layout, disk=tmp_path)
    engine = make_engine(first, GRID)
    engine.submit(submit("one", PROMPT, 20))
    answer = drain(engine)["one"].token_ids
    first.close()  # what was used once and is nowhere else is saved now
    next_turn = [*PROMPT, *answer, *prompt_of(30, seed=4)]
    second = make_batch(model, choose_layout(model, lambda: make_prompt_cache(model)).layout, disk=tmp_path)
    engine = make_engine(second, GRID)
    engine.submit(submit("two", next_turn))
    found = drain(engine)["two"]
    second.close()
    assert found.last.num_cached_tokens == 619
    assert found.token_ids == greedy_solo(model, next_turn, 8)


def test_memory_too_small_for_a_prompt_leaves_it_to_the_disk(model: nn.Module, tmp_path: Path):
    batch = make_batch(model, choose_layout(model, lambda: make_prompt_cache(model)).layout, 200_000, disk=tmp_path)
    engine = make_engine(batch, GRID)
    prompts = [prompt_of(600, seed) for seed in range(3)]
    answers = {}
    for number, prompt in enumerate([*prompts, *prompts]):
        engine.submit(submit(f"r{number}", prompt))
        drain(engine, answers)
        assert answers[f"r{number}"].token_ids == greedy_solo(model, prompt, 8)
        assert batch.memory().cache_bytes <= 200_000
    batch.close()


def test_rows_of_every_kind_write_what_they_write_alone(model: nn.Module):
    dice = random.Random(3)
    choice = choose_layout(model, lambda: make_prompt_cache(model))
    engine = make_engine(make_batch(model, choice.layout), SchedulerLimits(max_num_seqs=4, max_chunk=256))
    wanted, answers = {}, {}
    for number in range(10):
        name, prompt, count = f"r{number}", prompt_of(dice.choice([1, 5, 30, 270]), number), dice.randrange(1, 12)
        engine.submit(submit(name, prompt, count))
        wanted[name] = (prompt, count)
        for _ in range(dice.randrange(4)):
            step(engine, answers)
        if number % 5 == 4:
            engine.cancel(name)
            del wanted[name]
    drain(engine, answers)
    for name, (prompt, count) in wanted.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, count), name
