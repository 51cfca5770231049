"""Short prompts computed in one pass get what each gets alone."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.engine.last_row import LastRow
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.paged_layout import PagedLayout
from omlx.server.engine.prompt_rows import PromptRows
from omlx.server.engine.slot_layout import SlotLayout

from .driving import drain, make_engine
from .reference_pages import ReferencePageAttention
from .tiny_model import VOCABULARY, greedy_solo, make_batch, prompt_of, submit, tiny_llama


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


def test_prompts_of_any_length_and_cached_prefix_get_their_own_logits_and_caches(model):
    last_row = LastRow(model)
    cached, pieces = [0, 37, 5, 300], [[1], prompt_of(90), prompt_of(4, 2), prompt_of(60, 3)]
    together: list[list[Any]] = [make_prompt_cache(model) for _ in pieces]
    alone: list[list[Any]] = [make_prompt_cache(model) for _ in pieces]
    for caches in (together, alone):
        for row, count in zip(caches, cached, strict=True):
            if count:
                model(mx.array([prompt_of(count, 7)]), cache=row)

    logits = PromptRows(model, last_row).logits(pieces, together)

    for row, piece in enumerate(pieces):
        expected = last_row.logits(piece, alone[row])
        assert mx.allclose(logits[row : row + 1], expected, atol=1e-4).item()
        for mine, theirs in zip(together[row], alone[row], strict=True):
            assert mine.offset == theirs.offset
            assert mx.allclose(mine.keys[..., : mine.offset, :], theirs.keys[..., : theirs.offset, :], atol=1e-4).item()


@pytest.mark.parametrize("layout", [SlotLayout, lambda model: PagedLayout(model, ReferencePageAttention())])
def test_requests_that_come_together_write_what_they_write_alone(model, layout, monkeypatch):
    groups: list[int] = []
    compute = MlxBatch.prefill_together

    def counted(batch: MlxBatch, counts: Any) -> dict[str, list[int]]:
        groups.append(len(counts))
        return compute(batch, counts)

    monkeypatch.setattr(MlxBatch, "prefill_together", counted)
    engine = make_engine(make_batch(model, layout(model)))
    prompts = {f"r{seed}": prompt_of(20 + 11 * seed, seed) for seed in range(6)}
    engine.submit(submit("r0", prompts["r0"]))
    drain(engine)
    prompts["longer"] = prompts["r0"] + prompt_of(30, 9)

    for name, prompt in prompts.items():
        engine.submit(submit(name, prompt))
    answers = drain(engine)

    assert max(groups) > 2
    assert answers["longer"].last.num_cached_tokens == len(prompts["r0"])
    for name, prompt in prompts.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, 8), name


def test_one_that_is_refused_takes_no_other_with_it(model):
    engine = make_engine(make_batch(model))
    prompts = {"a": prompt_of(40, 1), "b": prompt_of(50, 2)}
    engine.submit(submit("a", prompts["a"]))
    engine.submit(submit("bad", [*prompt_of(20, 3), VOCABULARY]))
    engine.submit(submit("b", prompts["b"]))
    answers = drain(engine)
    assert "outside the vocabulary" in answers["bad"].last.error
    for name, prompt in prompts.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, 8)


def test_a_model_that_cannot_end_a_prompt_in_one_pass_computes_one_at_a_time(model):
    class Hidden:
        def __init__(self, inner: Any) -> None:
            self.named_modules = inner.named_modules
            self._inner = inner

        def __call__(self, inputs: mx.array, cache: Any = None) -> mx.array:
            return self._inner(inputs, cache=cache)

    hidden: Any = Hidden(model)
    assert not make_batch(model, SlotLayout(hidden), run=hidden).takes_prompts_together
    assert make_batch(model).takes_prompts_together
