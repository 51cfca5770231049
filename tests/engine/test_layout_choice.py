"""Each kind of model gets the best way of decoding rows together that is right for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import gemma2, llama
from mlx_lm.models.cache import RotatingKVCache, make_prompt_cache

from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.slot_layout import SlotLayout

from ..cache.models import tiny_mamba
from .tiny_model import VOCABULARY, prompt_of, tiny_llama


def batching_of(model: nn.Module) -> tuple[str, str]:
    mx.random.seed(1)
    choice = choose_layout(model, lambda: make_prompt_cache(model))
    return choice.batching.name, choice.batching.reason


def test_plain_attention_gets_slots():
    assert batching_of(tiny_llama()) == ("batched", "")


def test_half_precision_is_not_mistaken_for_a_wrong_layout():
    model = tiny_llama()
    model.set_dtype(mx.bfloat16)
    assert batching_of(model) == ("batched", "")


@pytest.mark.parametrize(("dtype", "expected"), [(mx.bfloat16, "batched"), (mx.float32, "serial")])
def test_a_model_that_is_as_far_off_alone_is_not_held_to_more_together(dtype: mx.Dtype, expected: str):
    """As one whose tokens rounding sends to other experts: the noise depends on how the tokens are laid out."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_llama()
            self.inner.set_dtype(dtype)
            self.model, self.layers, self.args = self.inner.model, self.inner.layers, self.inner.args

        def __call__(self, inputs: mx.array, cache: Any = None) -> mx.array:
            logits = self.inner(inputs, cache)
            spread = logits.max() - logits.min()
            noise = mx.random.uniform(-1, 1, logits.shape, key=mx.random.key(inputs.size)).astype(logits.dtype)
            return logits + 0.08 * spread * noise

    assert batching_of(Noisy())[0] == expected


def test_a_model_that_computes_attention_by_hand_is_decoded_row_by_row_and_the_reason_told():
    """mlx-lm 0.32.2 lays the padding mask of a batch over gemma2's heads instead of its rows."""
    shape: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-5}
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "vocab_size": VOCABULARY,
    }
    batching, reason = batching_of(gemma2.Model(gemma2.ModelArgs(model_type="gemma2", **shape, **sizes)))
    assert batching == "serial"
    assert "differ" in reason


def test_a_sliding_window_is_padded():
    assert batching_of(tiny_llama(["full_attention", "sliding_attention"]))[0] == "padded"


def test_a_recurrent_model_is_batched_with_its_states():
    assert batching_of(tiny_mamba())[0] == "padded"


def test_a_window_that_keeps_its_first_tokens_is_decoded_row_by_row():
    model = tiny_llama()
    choice = choose_layout(model, lambda: [RotatingKVCache(32, keep=4) for _ in range(2)])
    assert choice.batching.name == "serial"
    assert choice.batching.reason


def test_a_layout_whose_numbers_are_off_is_not_taken(monkeypatch):
    class Shifted(SlotLayout):
        def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
            return super().forward(token_ids)[::-1]

    monkeypatch.setattr("omlx.server.engine.layout_choice.SlotLayout", Shifted)
    batching, reason = batching_of(tiny_llama())
    assert batching == "padded"
    assert "differ" in reason


def test_attention_of_the_model_files_is_itself_again_after_a_step():
    model, original = tiny_llama(), vars(llama)["scaled_dot_product_attention"]
    layout = SlotLayout(model)
    caches = make_prompt_cache(model)
    model(mx.array([prompt_of(5)]), cache=caches)
    layout.join(caches)
    layout.forward([[1]])
    assert vars(llama)["scaled_dot_product_attention"] is original
