"""Models of every kind draft in the layout that is chosen for them, and no answer changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import mlx.nn as nn
import pytest
from mlx_lm.models.cache import RotatingKVCache, make_prompt_cache
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from omlx.server.engine.decode_layout import DecodeLayout, SerialLayout
from omlx.server.engine.deferred_layout import DeferredLayout
from omlx.server.engine.grammar import GrammarCompiler
from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.messages import Submit
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.ngram_drafter import NgramDrafter
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.engine.speculation import Drafter
from omlx.server.events import FinishReason
from omlx.server.requests import Json, JsonSchema, SamplingParams

from ..cache.models import MODELS
from .driving import Answer, drain, make_engine, step
from .grammar_model import grammar_of
from .test_rewinding_layout import LuckyDrafter
from .tiny_model import GREEDY, VOCABULARY, greedy_solo, make_batch, prompt_of, submit, tiny_llama

LONE = {"recurrent"}
"""Their rows draft only alone."""
UNDRAFTED = {"window that keeps its head"}


@pytest.fixture(scope="module", params=[kind for kind in MODELS if kind not in UNDRAFTED])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind: str) -> nn.Module:
    return MODELS[kind]()


@pytest.fixture
def layout(model: nn.Module) -> DecodeLayout:
    return choose_layout(model, lambda: make_prompt_cache(model)).layout


def answers_of(batch: MlxBatch, requests: Sequence[Submit], apart: int = 2) -> dict[str, Answer]:
    """Of requests that come some steps after one another, three at a time."""
    engine, answers = make_engine(batch, SchedulerLimits(max_num_seqs=3, max_chunk=256)), dict[str, Answer]()
    for request in requests:
        engine.submit(request)
        for _ in range(apart):
            step(engine, answers)
    return drain(engine, answers)


def tokens_of(answers: dict[str, Answer]) -> dict[str, list[int]]:
    return {name: answer.token_ids for name, answer in answers.items()}


def test_it_is_told_which_rows_draft(model: nn.Module, kind: str):
    batching = choose_layout(model, lambda: make_prompt_cache(model)).batching
    assert batching.drafting == ("lone" if kind in LONE else "all")
    assert bool(batching.drafting_reason) == (kind in LONE)


def test_rows_that_join_and_leave_write_what_they_write_alone(model: nn.Module, layout: DecodeLayout):
    lengths = (3, 127, 40, 131, 17, 200)
    requests = [submit(f"r{n}", prompt_of(length, n), 30 + 3 * n) for n, length in enumerate(lengths)]
    requests.append(submit("last", prompt_of(33), 90))
    expected = {r.request_id: greedy_solo(model, r.token_ids, r.max_tokens) for r in requests}
    batch = make_batch(model, layout, drafters=[LuckyDrafter(expected)])
    assert tokens_of(answers_of(batch, requests)) == expected
    assert batch.drafts[0].num_accepted > 20
    assert batch.drafts[0].num_accepted < batch.drafts[0].num_tokens


@pytest.mark.parametrize("length", [9, 197])
def test_a_lone_row_drafts_before_its_layout_is_decided(model: nn.Module, length: int):
    expected = {"one": greedy_solo(model, prompt_of(length), 60)}
    layout = DeferredLayout(model, lambda: make_prompt_cache(model))
    batch = make_batch(model, layout, drafters=[LuckyDrafter(expected)])
    assert tokens_of(answers_of(batch, [submit("one", prompt_of(length), 60)])) == expected
    assert batch.drafts[0].num_accepted > 10


@pytest.mark.parametrize("sampling", [SamplingParams(0.8, seed=5), SamplingParams(1.0, top_k=3, seed=6)])
def test_a_seed_draws_the_same_with_drafts_and_without(
    model: nn.Module, layout: DecodeLayout, sampling: SamplingParams
):
    requests = [submit(f"r{n}", prompt_of(length, n), 40, sampling) for n, length in enumerate((9, 150, 33))]
    plain = tokens_of(answers_of(make_batch(model, SerialLayout(model), drafters=[]), requests, apart=12))
    batch = make_batch(model, layout, drafters=[LuckyDrafter(plain)])
    assert tokens_of(answers_of(batch, requests, apart=12)) == plain
    assert batch.drafts[0].num_accepted > 10


def test_a_text_that_repeats_itself_is_drafted_from_itself(model: nn.Module, layout: DecodeLayout, kind: str):
    requests = [submit(f"r{n}", prompt_of(40, n) * 3, 60) for n in range(3)]
    expected = {r.request_id: greedy_solo(model, r.token_ids, r.max_tokens) for r in requests}
    batch = make_batch(model, layout)
    assert tokens_of(answers_of(batch, requests, apart=20)) == expected
    assert batch.drafts[0].num_accepted > 5 or kind == "Qwen3.5 hybrid"  # which repeats nothing of its own accord


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(1.0, seed=3)])
def test_under_a_grammar_the_same_is_written(
    model: nn.Module, layout: DecodeLayout, sampling: SamplingParams, tmp_path: Path
):
    tokenizer = small_tokenizer()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    schema: dict[str, Json] = {"type": "array", "items": {"const": "again"}, "minItems": 7, "maxItems": 7}
    stop = tokenizer.get_vocab_size() - 1
    held = [
        Submit(f"r{n}", prompt_of(5 + 20 * n, n), 400, [stop], sampling, grammar=grammar_of(JsonSchema(schema)))
        for n in range(3)
    ]
    requests = [held[0], submit("free", prompt_of(50), 40), *held[1:]]

    def run(choice: DecodeLayout, drafters: Sequence[Drafter]) -> tuple[dict[str, Answer], int]:
        batch = make_batch(model, choice, drafters=drafters)
        batch._grammars = GrammarCompiler(tmp_path / "tokenizer.json", VOCABULARY)
        return answers_of(batch, requests, apart=30), sum(count.num_accepted for count in batch.drafts)

    plain, _ = run(SerialLayout(model), [])
    drafted, num_accepted = run(layout, [NgramDrafter()])
    assert tokens_of(drafted) == tokens_of(plain)
    assert num_accepted > 10
    for request in held:
        answer = drafted[request.request_id]
        assert answer.last.finish_reason is FinishReason.STOP
        jsonschema.validate(json.loads(tokenizer.decode(answer.token_ids)), schema)


def small_tokenizer() -> Tokenizer:
    """Printable letters and a stop token, as many as the tiny models have tokens."""
    letters = [chr(code) for code in range(32, 127)]
    vocabulary = {"\u0120" if letter == " " else letter: index for index, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def test_a_window_that_keeps_its_first_tokens_takes_no_drafts_and_that_is_told():
    choice = choose_layout(tiny_llama(), lambda: [RotatingKVCache(32, keep=4) for _ in range(2)])
    choice.layout.join([RotatingKVCache(32, keep=4) for _ in range(2)])
    assert not choice.layout.may_draft(0)
    assert choice.batching.drafting == "none"
    assert choice.batching.drafting_reason
