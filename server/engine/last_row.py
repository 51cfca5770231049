"""The logits of a prompt's last token, without running the head over all the others.

The head of a small model is as dear as its layers together. mlx-lm's models apply it to every position, so
the usual way is a second forward pass for the last token alone. Here the final norm passes on only the
last row instead, which saves that pass; and the last layer's MLP, whose results nobody else reads, sees no other row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..cache.codec import LayerCache, evaluate

logger = logging.getLogger(__name__)


class _LastOnly(nn.Module):
    """A part of a model that can be told to look at the last row only."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.last_row_only = False

    def __call__(self, hidden: mx.array) -> mx.array:
        part: Any = self.part
        return part(hidden[:, -1:] if self.last_row_only else hidden)


class LastRow:
    """Runs a model over a piece of prompt. In one pass where the model allows it, else in two."""

    def __init__(self, model: Callable[..., mx.array]) -> None:
        self._model = model
        self._parts: list[_LastOnly] = []
        inner: Any = getattr(model, "model", None)
        norm, layers = getattr(inner, "norm", None), getattr(inner, "layers", None)
        if not isinstance(norm, nn.Module):
            return
        if not self._takes(inner, inner, "norm"):
            logger.info("the head of this model is not applied row by row; prompts end with a pass of their own")
        elif isinstance(layers, list) and layers and isinstance(getattr(layers[-1], "mlp", None), nn.Module):
            # What the MLP gives for the last row is added to all rows, of which only the last goes on.
            self._takes(inner, layers[-1], "mlp")

    def logits(self, token_ids: Sequence[int], caches: list[LayerCache]) -> mx.array:
        """Feed the tokens: the logits after the last one, shape [1, vocabulary]."""
        if not self._parts:
            if len(token_ids) > 1:
                self._run(token_ids[:-1], caches)
                evaluate(caches)
            return self._run(token_ids[-1:], caches)[:, -1]
        return self._last(token_ids, caches)[:, -1]

    def _run(self, token_ids: Sequence[int], caches: list[LayerCache] | None) -> mx.array:
        return self._model(mx.array([list(token_ids)]), cache=caches)

    def _last(self, token_ids: Sequence[int], caches: list[LayerCache] | None) -> mx.array:
        for part in self._parts:
            part.last_row_only = True
        try:
            return self._run(token_ids, caches)
        finally:
            for part in self._parts:
                part.last_row_only = False

    def _takes(self, inner: Any, owner: Any, name: str) -> bool:
        """Put a `_LastOnly` in place of the owner's part, where the logits stay the same."""
        original = getattr(owner, name)
        self._parts.append(_LastOnly(original))
        setattr(owner, name, self._parts[-1])
        if self._fits(inner):
            return True
        setattr(owner, name, original)
        self._parts.pop()
        return False

    def _fits(self, inner: Any) -> bool:
        """Whether one row of the parts makes one row of the same logits. The last layer is enough to tell, where the
        model runs with one: what matters comes in it and after it."""
        layers = getattr(inner, "layers", None)
        if isinstance(layers, list) and len(layers) > 1:
            inner.layers = layers[-1:]
            try:
                return self._is_right()
            except Exception:  # any model file may want its layers to be as many as it was built with
                logger.debug("the model does not run with its last layer alone", exc_info=True)
            finally:
                inner.layers = layers
        try:
            return self._is_right()
        except Exception:  # nor need it like another module in this place
            logger.debug("the model does not run on its last row", exc_info=True)
            return False

    def _is_right(self) -> bool:
        whole, last = self._run([1, 2, 3], None), self._last([1, 2, 3], None)
        if last.shape != (1, 1, whole.shape[-1]):
            return False
        difference: Any = mx.max(mx.abs(whole[:, -1:] - last)) / mx.max(mx.abs(whole))
        return bool(difference.item() < 1e-2)
