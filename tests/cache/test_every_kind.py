"""What must hold for every kind of cache: resumed, from memory or from disk, is the same as computed."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models.cache import ConcatenateKVCache, KVCache, QuantizedKVCache, RotatingKVCache, make_prompt_cache

from omlx.server.cache.codec import BlockPayload, CacheCodec, LayerCache, evaluate
from omlx.server.cache.tensor_file import DamagedFile
from omlx.server.engine.decode_layout import SerialLayout
from omlx.server.engine.engine import Engine
from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.messages import Submit
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.scheduler import SchedulerLimits

from ..engine.driving import Answer, drain, make_engine, step
from ..engine.tiny_model import GREEDY, greedy_solo, make_batch, prompt_of, submit, tiny_llama
from .models import MODELS, tiny_llama_with

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


@pytest.mark.parametrize("seed", range(6))
def test_any_chunking_gives_what_one_pass_gives(model: nn.Module, seed: int):
    dice = random.Random(seed)
    ends = sorted({*dice.sample(range(1, 600), dice.randrange(1, 30)), 600})
    caches, found = make_prompt_cache(model), mx.zeros(0)
    for start, stop in itertools.pairwise([0, *ends]):
        found = feed(model, caches, start, stop, chunk=600)
    expected = feed(model, make_prompt_cache(model), 0, 600, chunk=600)
    assert mx.allclose(expected, found, rtol=0, atol=1e-4), ends


def test_a_window_that_rotates_and_keeps_its_head_is_resumed_bit_for_bit():
    model = tiny_llama_with(lambda: RotatingKVCache(max_size=40, keep=4))
    codec, caches = CacheCodec(lambda: make_prompt_cache(model)), make_prompt_cache(model)
    feed(model, caches, 0, 256)
    (block,) = codec.cut(caches, [(0, 256)], snapshot=True)
    assert {array.shape[-2] for array in block.arrays} == {40}
    restored = codec.restore([block], 256, 600)
    assert mx.array_equal(feed(model, restored, 256, 300, chunk=1), feed(model, caches, 256, 300, chunk=1)).item()
    assert mx.array_equal(feed(model, restored, 300, 600), feed(model, caches, 300, 600)).item()


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
    sizes: list[int] = []
    for start in range(0, 1536, 256):
        feed(model, caches, 0, 256)
        (block,) = codec.cut(caches, [(start, start + 256)], snapshot=True)
        sizes.append(block.nbytes)
    assert sizes[-1] == sizes[-2]  # at first, what looks back on a part of the text has not all of it


def test_a_file_of_a_model_with_other_layers_is_refused(model: nn.Module):
    codec = CacheCodec(lambda: make_prompt_cache(model))
    caches = make_prompt_cache(model)
    feed(model, caches, 0, 256)
    raw = codec.encode(codec.cut(caches, [(0, 256)], snapshot=True)[0])
    assert raw is not None
    shorter = CacheCodec(lambda: make_prompt_cache(model)[1:])
    with pytest.raises(DamagedFile):
        shorter.decode(raw)


def test_a_block_of_other_keys_and_values_is_refused():
    def codec(cache: LayerCache) -> CacheCodec:
        return CacheCodec(lambda: [cache])

    codecs = [
        codec(KVCache()),
        codec(ConcatenateKVCache()),
        codec(RotatingKVCache(max_size=16)),
        codec(RotatingKVCache(max_size=32)),
        codec(RotatingKVCache(max_size=32, keep=4)),
        *(codec(QuantizedKVCache(size, bits)) for size in (32, 64) for bits in (4, 8)),
    ]
    raw = [codec.encode(BlockPayload((), (), divisible=True)) for codec in codecs]
    for writer, reader in itertools.permutations(range(len(codecs)), 2):
        with pytest.raises(DamagedFile):
            codecs[reader].decode(raw[writer])


@pytest.mark.parametrize("other_bits", [None, 4])
def test_a_folder_shared_with_other_keys_and_values_gives_them_nothing(tmp_path: Path, other_bits: int | None):
    quantized = MODELS["quantized"]()
    other = tiny_llama(head_dim=32)
    if other_bits:
        other = tiny_llama_with(lambda: QuantizedKVCache(group_size=32, bits=other_bits), head_dim=32)
    for number, served in enumerate([quantized, other, quantized]):
        batch = make_batch(served, SerialLayout(served), disk=tmp_path)  # under the same name: the format tells them
        engine = make_engine(batch, GRID)
        engine.submit(submit(str(number), PROMPT))
        answer = drain(engine)[str(number)]
        batch.close()
        assert answer.last.num_cached_tokens == 0
        assert answer.token_ids == greedy_solo(served, PROMPT, 8)


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


def test_a_prompt_then_with_its_answer_then_the_same_again(model: nn.Module):
    engine = make_engine(make_batch(model, choose_layout(model, lambda: make_prompt_cache(model)).layout), GRID)
    prompt = PROMPT[:300]
    engine.submit(submit("first", prompt, 4))
    longer = prompt + drain(engine)["first"].token_ids
    for name in ("second", "third"):
        engine.submit(submit(name, longer, 4))
        answer = drain(engine)[name]
        assert answer.token_ids == greedy_solo(model, longer, 4)
        assert answer.last.num_cached_tokens >= 256


def test_blocks_that_are_damaged_swapped_or_gone_are_computed_again(model: nn.Module, tmp_path: Path):
    def start(identity: str = "test") -> tuple[MlxBatch, Engine]:
        batch = make_batch(model, SerialLayout(model), disk=tmp_path, identity=identity)
        return batch, make_engine(batch, GRID)

    prompts = [prompt_of(260, seed) for seed in range(5)]
    files: list[list[Path]] = []
    for prompt in prompts:
        batch, engine = start()
        engine.submit(submit("r", prompt, 4))
        drain(engine)
        while batch.idle():
            pass
        batch.close()
        files.append([path for path in tmp_path.rglob("*.safetensors") if not any(path in known for known in files)])
    for path in files[0]:
        path.write_bytes(files[4][0].read_bytes())
    for path in files[1]:
        os.truncate(path, path.stat().st_size // 2)
    for path in files[2]:
        raw = bytearray(path.read_bytes())
        raw[-5] ^= 1
        path.write_bytes(raw)
    for path in files[3]:
        path.unlink()
    batch, engine = start()
    cached: list[int] = []
    for prompt in prompts:
        engine.submit(submit("r", prompt, 4))
        answer = drain(engine)["r"]
        cached.append(answer.last.num_cached_tokens)
        assert answer.token_ids == greedy_solo(model, prompt, 4)
    batch.close()
    assert cached[:4] == [0, 0, 0, 0]
    assert cached[4] >= 256
    batch, engine = start("of another adapter, or another type of keys and values")
    engine.submit(submit("r", prompts[4], 4))
    assert drain(engine)["r"].last.num_cached_tokens == 0
    engine.submit(Submit("s", prompts[4], 4, sampling=GREEDY, cache_salt="another key"))
    assert drain(engine)["s"].last.num_cached_tokens == 0
    batch.close()


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


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_every_kind_write_what_they_write_alone(model: nn.Module, seed: int):
    dice = random.Random(seed)
    choice = choose_layout(model, lambda: make_prompt_cache(model))
    engine = make_engine(make_batch(model, choice.layout), SchedulerLimits(max_num_seqs=4, max_chunk=256))
    wanted: dict[str, tuple[list[int], int]] = {}
    answers: dict[str, Answer] = {}
    for number in range(12):
        name, prompt, count = f"r{number}", prompt_of(dice.choice([1, 5, 30, 250, 270]), number), dice.randrange(1, 12)
        engine.submit(submit(name, prompt, count))
        wanted[name] = (prompt, count)
        for _ in range(dice.randrange(4)):
            step(engine, answers)
        under_way = [name for name in wanted if name not in answers or answers[name].last.finish_reason is None]
        if number % 3 == 2 and under_way:
            cancelled = dice.choice(under_way)
            engine.cancel(cancelled)
            del wanted[cancelled]
    drain(engine, answers)
    for name, (prompt, count) in wanted.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, count), name
