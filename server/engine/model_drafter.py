"""Drafts by a smaller model with the same tokens: each row's likeliest next ones, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache
from tokenizers import Tokenizer

from ..cache.codec import LayerCache, evaluate
from ..errors import UnsupportedModel
from ..models.loading import load_model

_DRAFT_TOKENS = 4
_CATCH_UP_TOKENS = 512
"""Of a row's text, read before a step; until all of it is, the row gets no draft and nobody waits long."""


@dataclass(slots=True)
class _Row:
    """`caches` hold the first `num_read` of `token_ids` and then `guessed`."""

    token_ids: Sequence[int]
    caches: list[LayerCache]
    num_read: int = 0
    guessed: list[int] | None = None

    def forget_wrong_guesses(self) -> None:
        """What was guessed right has been read with that."""
        guessed, self.guessed = self.guessed or [], None
        known = self.token_ids[self.num_read : len(self.token_ids) - 1]
        right = next((i for i, (a, b) in enumerate(zip(guessed, known, strict=False)) if a != b), None)
        right = min(len(guessed), len(known)) if right is None else right
        trim_prompt_cache(self.caches, len(guessed) - right)
        self.num_read += right


class ModelDrafter:
    """Implements `Drafter`. The model's caches must let tokens be taken back."""

    name = "model"

    def __init__(self, model: Callable[..., mx.array], make_cache: Callable[[], list[LayerCache]]) -> None:
        self._model = model
        self._make_cache = make_cache
        self._rows: dict[str, _Row] = {}

    @classmethod
    def load(cls, path: Path, tokens_of: Path) -> ModelDrafter:
        """The model in a folder as a drafter for the one in `tokens_of`. Raises `ModelError`."""
        if _vocabulary(path) != _vocabulary(tokens_of):
            raise UnsupportedModel(
                f"{path.name} has other tokens than {tokens_of.name} and cannot draft for it; "
                "choose a smaller model of the same family"
            )
        model = load_model(path).model
        if not can_trim_prompt_cache(make_prompt_cache(model)):
            raise UnsupportedModel(f"{path.name} cannot draft: what its layers keep cannot be taken back")
        return cls(model, lambda: make_prompt_cache(model))

    def join(self, key: str, token_ids: Sequence[int]) -> None:
        self._rows[key] = _Row(token_ids, self._make_cache())

    def observe(self, key: str, hidden: Any) -> None:
        pass

    def draft(self, limits: Mapping[str, int]) -> dict[str, list[int]]:
        ready = [key for key, limit in limits.items() if limit > 0 and self._catch_up(self._rows[key])]
        guesses = {key: self._guess(self._rows[key], min(limits[key], _DRAFT_TOKENS)) for key in ready}
        mx.eval(list(guesses.values()))
        found: dict[str, list[int]] = {}
        for key, tokens in guesses.items():
            found[key] = tokens.tolist()  # pyright: ignore[reportArgumentType]
            self._rows[key].num_read += 1
            self._rows[key].guessed = found[key][:-1]
        return found

    def leave(self, key: str) -> None:
        self._rows.pop(key, None)

    def check(self) -> None:
        assert not self._rows, f"caches of rows that have ended: {[*self._rows]}"

    def _catch_up(self, row: _Row) -> bool:
        """Read what the row has but for its last token, or the next piece of it; whether that is all."""
        row.forget_wrong_guesses()
        end = min(len(row.token_ids) - 1, row.num_read + _CATCH_UP_TOKENS)
        if end > row.num_read:
            self._model(mx.array([row.token_ids[row.num_read : end]]), cache=row.caches)
            evaluate(row.caches)
            row.num_read = end
        return end == len(row.token_ids) - 1

    def _guess(self, row: _Row, count: int) -> mx.array:
        """The likeliest `count` tokens to come, yet to be computed."""
        token = mx.array([row.token_ids[-1]])
        guesses: list[mx.array] = []
        for _ in range(count):
            token = mx.argmax(self._model(token[None], cache=row.caches)[:, -1], axis=-1)
            guesses.append(token)
        return mx.concatenate(guesses)


def _vocabulary(folder: Path) -> dict[str, int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
