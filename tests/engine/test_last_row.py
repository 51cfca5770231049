"""The last row's logits are the whole pass's last row, in one pass or two."""

from __future__ import annotations

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


def test_other_passes_still_give_every_row():
    model = tiny_llama()
    LastRow(model).logits(prompt_of(5), make_prompt_cache(model))
    assert model(mx.array([prompt_of(5)])).shape[1] == 5
