"""The last row's logits are the whole pass's last row, in one pass or two."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.engine.last_row import LastRow

from .tiny_model import prompt_of, tiny_llama


class Counted(nn.Module):
    """A model that counts its passes; `inner` may hide the final norm."""

    def __init__(self, model: nn.Module, show_norm: bool) -> None:
        super().__init__()
        self._model = [model]
        self.rows: list[int] = []
        if show_norm:
            self.model = model.model

    def __call__(self, inputs: mx.array, cache=None) -> mx.array:
        logits = self._model[0](inputs, cache=cache)
        self.rows.append(logits.shape[1])
        return logits


def check(show_norm: bool) -> list[int]:
    prompt = prompt_of(20)
    expected = tiny_llama()(mx.array([prompt]))[:, -1]
    model = Counted(tiny_llama(), show_norm)
    last_row = LastRow(model)
    model.rows.clear()
    caches = make_prompt_cache(tiny_llama())
    found = last_row.logits(prompt, caches)
    assert mx.allclose(found, expected, atol=1e-5).item()
    assert caches[0].offset == 20
    return model.rows


def test_one_pass_where_the_final_norm_is_in_reach():
    assert check(show_norm=True) == [1]


def test_two_passes_elsewhere():
    assert check(show_norm=False) == [19, 1]


def test_the_last_layer_s_mlp_sees_the_last_row_only():
    model = tiny_llama()
    rows: list[list[int]] = []

    class Counting(nn.Module):
        def __init__(self, part: nn.Module) -> None:
            super().__init__()
            self.part = part
            rows.append([])
            self.seen = [rows[-1]]

        def __call__(self, hidden: mx.array) -> mx.array:
            self.seen[0].append(hidden.shape[1])
            return self.part(hidden)

    layers: Any = model.layers
    for layer in layers:
        layer.mlp = Counting(layer.mlp)
    last_row = LastRow(model)
    for seen in rows:
        seen.clear()

    last_row.logits(prompt_of(20), make_prompt_cache(model))

    assert rows == [*[[20]] * (len(rows) - 1), [1]]


def test_an_mlp_that_needs_every_row_keeps_them():
    class Mixing(nn.Module):
        """Each row gets the sum of all, as no model's last layer should."""

        def __call__(self, hidden: mx.array) -> mx.array:
            return hidden + mx.sum(hidden, axis=1, keepdims=True)

    model = tiny_llama()
    layers: Any = model.layers
    layers[-1].mlp = Mixing()
    prompt = prompt_of(20)
    expected = model(mx.array([prompt]))[:, -1]

    found = LastRow(model).logits(prompt, make_prompt_cache(model))

    assert mx.allclose(found, expected, atol=1e-4).item()


def test_other_passes_still_give_every_row():
    model = tiny_llama()
    LastRow(model).logits(prompt_of(5), make_prompt_cache(model))
    assert model(mx.array([prompt_of(5)])).shape[1] == 5
