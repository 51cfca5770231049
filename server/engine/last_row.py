"""The logits of a prompt's last token, without running the head over all the others.

The head of a small model is as dear as its layers together. mlx-lm's models apply it to every position, so
the usual way is a second forward pass for the last token alone. Here the final norm passes on only the
last row instead, which saves that pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..cache.codec import LayerCache, evaluate

logger = logging.getLogger(__name__)


class _FinalNorm(nn.Module):
    """A model's final norm that can be told to keep the last row only."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.last_row_only = False

    def __call__(self, hidden: mx.array) -> mx.array:
        norm: Any = self.norm
        return norm(hidden[:, -1:] if self.last_row_only else hidden)


class LastRow:
    """Runs a model over a piece of prompt. In one pass where the model allows it, else in two."""

    def __init__(self, model: Callable[..., mx.array]) -> None:
        self._model = model
        self._norm: _FinalNorm | None = None
        inner: Any = getattr(model, "model", None)
        if not isinstance(getattr(inner, "norm", None), nn.Module):
            return
        original = inner.norm
        inner.norm = self._norm = _FinalNorm(original)
        if not self._fits(inner):
            logger.info("the head of this model is not applied row by row; prompts end with a pass of their own")
            inner.norm, self._norm = original, None

    def logits(self, token_ids: Sequence[int], caches: list[LayerCache]) -> mx.array:
        """Feed the tokens: the logits after the last one, shape [1, vocabulary]."""
        if self._norm is None:
            if len(token_ids) > 1:
                self._run(token_ids[:-1], caches)
                evaluate(caches)
            return self._run(token_ids[-1:], caches)[:, -1]
        self._norm.last_row_only = True
        try:
            return self._run(token_ids, caches)[:, -1]
        finally:
            self._norm.last_row_only = False

    def _run(self, token_ids: Sequence[int], caches: list[LayerCache] | None) -> mx.array:
        return self._model(mx.array([list(token_ids)]), cache=caches)

    def _fits(self, inner: Any) -> bool:
        """Whether one row of the final norm makes one row of the same logits. One layer is enough to tell, where
        the model runs with one: what matters comes after the last."""
        layers = getattr(inner, "layers", None)
        if not isinstance(layers, list) or len(layers) < 2:
            return self._is_right()
        inner.layers = layers[:1]
        try:
            return self._is_right()
        except Exception:  # any model file may want its layers to be as many as it was built with
            inner.layers = layers
            return self._is_right()
        finally:
            inner.layers = layers

    def _is_right(self) -> bool:
        assert self._norm is not None
        whole = self._run([1, 2, 3], None)
        self._norm.last_row_only = True
        try:
            last = self._run([1, 2, 3], None)
        finally:
            self._norm.last_row_only = False
        if last.shape != (1, 1, whole.shape[-1]):
            return False
        difference: Any = mx.max(mx.abs(whole[:, -1:] - last)) / mx.max(mx.abs(whole))
        return bool(difference.item() < 1e-2)
