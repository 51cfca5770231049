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
    """A part of a model that can be told to look at one token of each row only, the one at `places`."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.places: list[int] | None = None

    def __call__(self, hidden: mx.array) -> mx.array:
        part: Any = self.part
        if self.places is None:
            return part(hidden)
        if len(self.places) == 1:
            return part(hidden[:, -1:])
        return part(hidden[mx.arange(len(self.places)), mx.array(self.places)][:, None])


class LastRow:
    """Runs a model over a piece of prompt. In one pass where the model allows it, else in two."""

    def __init__(self, model: Callable[..., mx.array]) -> None:
        self._model = model
        self._parts: list[_LastOnly] = []
        inner: Any = getattr(model, "model", None)
        norm, layers = getattr(inner, "norm", None), getattr(inner, "layers", None)
        self._has_all_layers = getattr(inner, "pipeline_size", 1) == 1
        if not isinstance(norm, nn.Module):
            return
        if not self._takes(inner, inner, "norm"):
            logger.info("the head of this model is not applied row by row; prompts end with a pass of their own")
        elif (
            self._has_all_layers
            and isinstance(layers, list)
            and layers
            and isinstance(getattr(layers[-1], "mlp", None), nn.Module)
        ):
            # What the MLP gives for the last row is added to all rows, of which only the last goes on.
            self._takes(inner, layers[-1], "mlp")

    @property
    def in_one_pass(self) -> bool:
        """Also for `each`, whose caches a rank of a pipeline could not hand on."""
        return bool(self._parts) and self._has_all_layers

    def each(self, pieces: Sequence[Sequence[int]], caches: Sequence[Any]) -> mx.array:
        """Feed several rows, each its piece: the logits after the last token of each, [rows, vocabulary]. Only
        `in_one_pass`; the caches know how long the rows are."""
        width = max(map(len, pieces))
        even = mx.array([[*piece, *[piece[-1]] * (width - len(piece))] for piece in pieces])
        return self._last(even, caches, [len(piece) - 1 for piece in pieces])[:, -1]

    def logits(self, token_ids: Sequence[int], caches: list[LayerCache]) -> mx.array:
        """Feed the tokens: the logits after the last one, shape [1, vocabulary]."""
        if not self._parts:
            if len(token_ids) > 1:
                self._model(mx.array([token_ids[:-1]]), cache=caches)
                evaluate(caches)
            return self._model(mx.array([token_ids[-1:]]), cache=caches)[:, -1]
        return self._last(mx.array([token_ids]), caches, [len(token_ids) - 1])[:, -1]

    def _last(self, token_ids: mx.array, caches: Sequence[Any] | None, places: list[int]) -> mx.array:
        for part in self._parts:
            part.places = places
        try:
            return self._model(token_ids, cache=caches)
        finally:
            for part in self._parts:
                part.places = None

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
        token_ids = mx.array([[1, 2, 3]])
        whole, last = self._model(token_ids, cache=None), self._last(token_ids, None, [2])
        if last.shape != (1, 1, whole.shape[-1]):
            return False
        difference: Any = mx.max(mx.abs(whole[:, -1:] - last)) / mx.max(mx.abs(whole))
        return bool(difference.item() < 1e-2)
