"""A model with an MTP layer, run so that the states its drafts go on from are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from ..cache.codec import LayerCache
from ..models.mtp_model import MtpModel


class Recorder:
    """Stands for a model with an MTP layer wherever it is called; `hidden` is the last call's."""

    def __init__(self, model: MtpModel) -> None:
        self._model: Any = model
        self.forget()

    def __call__(self, inputs: mx.array, cache: Sequence[LayerCache] | None = None) -> mx.array:
        logits, self.hidden = self._model.forward(inputs, cache)
        return logits

    def forget(self) -> None:
        """Let go of states that nobody asked for: while they are not computed, they hold all that they need, such as a
        prompt's keys and values."""
        self.hidden = mx.zeros((0,))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is called meanwhile leaves `hidden` as it was."""
        hidden = self.hidden
        try:
            yield
        finally:
            self.hidden = hidden

    @property
    def model(self) -> object:
        """The part below the head, by the name that all models have it under."""
        return self._model.model
