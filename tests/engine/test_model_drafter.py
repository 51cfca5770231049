"""A smaller model drafts: answers are the large one's own, and no guess that was wrong is remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models.cache import RotatingKVCache, make_prompt_cache

from omlx.server.engine.loaded_batch import load_batch
from omlx.server.engine.model_drafter import ModelDrafter
from omlx.server.errors import UnsupportedModel

from ..text_model import build_text_model
from ..tiny_model import build_tiny_model, needs_embedded_model
from .driving import drain, make_engine
from .tiny_model import greedy_solo, make_batch, prompt_of, submit, tiny_llama


def drafter_of(model: Callable[..., mx.array], layers: nn.Module) -> ModelDrafter:
    return ModelDrafter(model, lambda: make_prompt_cache(layers))


class Doubtful:
    """A model that is wrong about every third token, counted by where it stands."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __call__(self, inputs: mx.array, cache: Any) -> mx.array:
        logits = self._model(inputs, cache=cache)
        return -logits if cache[0].offset % 3 == 0 else logits


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_llama()


@pytest.mark.parametrize("doubtful", [False, True])
@pytest.mark.parametrize("lengths", [[5], [3, 90, 41], [1300]])
def test_answers_are_those_without_a_draft(model: nn.Module, doubtful: bool, lengths: list[int]):
    drafting: Any = Doubtful(model) if doubtful else model
    drafter = drafter_of(drafting, model)
    engine = make_engine(batch := make_batch(model, drafters=[drafter]))
    for number, length in enumerate(lengths):
        engine.submit(submit(f"r{number}", prompt_of(length, seed=number), 40))
    answers = drain(engine)
    for number, length in enumerate(lengths):
        assert answers[f"r{number}"].token_ids == greedy_solo(model, prompt_of(length, seed=number), 40)
    (stats,) = batch.drafts
    assert stats.drafter == "model"
    assert stats.num_drafts > 0
    assert (stats.num_accepted == stats.num_tokens) is not doubtful
    assert stats.num_accepted > 0


def test_every_guess_is_what_the_model_itself_would_write(model: nn.Module):
    """Its cache holds the row's text and nothing of guesses that were not taken."""
    drafter = drafter_of(model, model)
    text = prompt_of(700, seed=3)
    drafter.join("a", text)
    assert drafter.draft({"a": 4}) == {}  # so much has to be read first
    for wrong in ([7, 8, 9], [1], []):
        guessed = drafter.draft({"a": 4})["a"]
        assert guessed == greedy_solo(model, text, 4)
        text += [*guessed[:2], *wrong] or [5]
    drafter.leave("a")
    drafter.leave("a")


def test_a_model_with_other_tokens_is_refused(tmp_path: Path):
    build_text_model(tmp_path / "large", 1000)
    build_text_model(tmp_path / "other", 1000)
    vocabulary = (tmp_path / "other" / "tokenizer.json").read_text()
    (tmp_path / "other" / "tokenizer.json").write_text(vocabulary.replace('"<|im_end|>"', '"<|end|>"'))
    with pytest.raises(UnsupportedModel, match="other has other tokens than large and cannot draft for it"):
        ModelDrafter.load(tmp_path / "other", tmp_path / "large")


@needs_embedded_model
def test_a_model_is_loaded_beside_the_one_it_drafts_for(tmp_path: Path):
    for name in ("large", "small"):
        build_tiny_model(tmp_path / name)
    batch = load_batch(tmp_path / "large", draft_model=tmp_path / "small")
    alone = load_batch(tmp_path / "large")
    assert [stats.drafter for stats in batch.drafts] == ["ngram", "model"]
    assert batch.info.footprint is not None
    assert alone.info.footprint is not None
    assert batch.info.footprint.kv_bytes(1000) == 2 * alone.info.footprint.kv_bytes(1000)


@needs_embedded_model
def test_a_model_whose_rows_take_no_drafts_is_not_given_a_drafter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build_tiny_model(tmp_path / "large")
    monkeypatch.setattr(
        "omlx.server.engine.loaded_batch.make_prompt_cache",
        lambda model: [RotatingKVCache(max_size=64, keep=4) for _ in make_prompt_cache(model)],
    )
    with pytest.raises(UnsupportedModel, match="nowhere cannot draft for large: what its layers keep"):
        load_batch(tmp_path / "large", draft_model=tmp_path / "nowhere")
