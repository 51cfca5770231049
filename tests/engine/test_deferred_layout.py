"""A lone row is decoded at once; the layout for several is found before the second one joins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.engine.deferred_layout import DeferredLayout
from omlx.server.engine.messages import Batching
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.slot_layout import SlotLayout

from ..cache.models import tiny_mamba
from .driving import drain, make_engine
from .tiny_model import greedy_solo, make_batch, prompt_of, submit, tiny_llama


class Counted(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model
        self.passes = 0

    @property
    def layers(self) -> Any:
        return self.inner.layers

    def __call__(self, inputs: mx.array, cache=None) -> mx.array:
        self.passes += 1
        return self.inner(inputs, cache=cache)


def deferred(model: nn.Module) -> DeferredLayout:
    return DeferredLayout(model, lambda: make_prompt_cache(model))


def settle(layout: DeferredLayout) -> int:
    """Until it is decided; the number of pieces that took."""
    pieces = 1
    while layout.settle():
        pieces += 1
    return pieces


def start(batch: MlxBatch, name: str, length: int) -> list[int]:
    """A row whose prompt is computed; its first token."""
    cached = batch.open(submit(name, prompt_of(length), 12))
    return batch.prefill(name, length - cached)


def test_nothing_is_computed_until_it_is_asked_for():
    model = Counted(tiny_llama())
    layout = deferred(model)
    assert model.passes == 0
    assert layout.batching.name == "undecided"
    assert layout.batching.drafting == "undecided"


def test_in_the_quiet_it_is_found_out_piece_by_piece():
    model = Counted(tiny_llama())
    layout = deferred(model)
    most = 0
    while True:
        before = model.passes
        more = layout.settle()
        most = max(most, model.passes - before)
        if not more:
            break
    assert most <= 2
    assert layout.batching == Batching("batched")
    assert settle(layout) == 1


@pytest.mark.parametrize(("make_model", "batching"), [(tiny_llama, "batched"), (tiny_mamba, "padded")])
def test_a_second_row_joins_only_a_layout_that_was_tried_and_all_rows_get_what_they_get_alone(
    make_model: Callable[[], nn.Module], batching: str
):
    model = make_model()
    expected = [greedy_solo(model, prompt_of(length), 12) for length in (20, 33, 9)]
    batch = make_batch(model, deferred(model))
    tokens = {"a": start(batch, "a", 20)}
    for _ in range(3):
        tokens["a"] += batch.decode()["a"]
    assert batch.batching.name == "undecided"
    for name, length in (("b", 33), ("c", 9)):
        tokens[name] = start(batch, name, length)
        assert batch.batching.name == batching
    while any(len(found) < 12 for found in tokens.values()):
        for name, found in batch.decode().items():
            tokens[name] += found
    assert [tokens[name][:12] for name in "abc"] == expected


def test_a_layout_that_is_wrong_never_sees_a_row(monkeypatch: pytest.MonkeyPatch):
    class Shifted(SlotLayout):
        def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
            return super().forward(token_ids)[::-1]

    monkeypatch.setattr("omlx.server.engine.layout_choice.SlotLayout", Shifted)
    model = tiny_llama()
    expected = {name: greedy_solo(model, prompt_of(length), 8) for name, length in (("a", 20), ("b", 31))}
    batch = make_batch(model, deferred(model))
    engine = make_engine(batch)
    for name, length in (("a", 20), ("b", 31)):
        engine.submit(submit(name, prompt_of(length)))
    answers = drain(engine)
    assert {name: answer.token_ids for name, answer in answers.items()} == expected
    assert batch.batching.name == "padded"
    assert "differ" in batch.batching.reason


@pytest.mark.parametrize("make_model", [tiny_llama, tiny_mamba])
def test_a_lone_row_without_a_quiet_moment_finds_it_out_on_its_way(make_model: Callable[[], nn.Module]):
    model = make_model()
    layout = deferred(model)
    engine = make_engine(make_batch(model, layout, drafters=[]))
    engine.submit(submit("a", prompt_of(20), 40))
    answer = drain(engine)["a"]
    assert answer.token_ids == greedy_solo(model, prompt_of(20), 40)
    assert layout.batching.name != "undecided"
