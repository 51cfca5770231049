"""Attention done by the cache itself: how mlx-lm's unchanged model files come to ask for it."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import mlx.core as mx

from ..errors import UnsupportedModel

_ATTENTION = "scaled_dot_product_attention"
"""What mlx-lm's model files call for attention, imported by that name from mlx_lm.models.base."""


class OwnAttention(ABC):
    """What a model gets as the cache of one layer whose rows stand at different lengths.

    `offset` holds each row's length. The new keys and values come with `update_and_fetch`, the queries with `attend`.
    """

    offset: mx.array

    def make_mask(self, _tokens: int, return_array: bool = False, window_size: int | None = None) -> None:
        """Nothing: `attend` knows what each row sees. Windows are not known here.

        Raises `UnsupportedModel` for a model that wants a mask of its own, which then gets another layout.
        """
        if return_array or window_size is not None:
            raise UnsupportedModel("the model asks for a mask of its own")

    @abstractmethod
    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]: ...

    @abstractmethod
    def attend(self, queries: mx.array, scale: float, sinks: mx.array | None) -> mx.array: ...


def attention_modules(model: Any) -> list[ModuleType]:
    """The modules that define the model's layers and call mlx-lm's attention by its name."""
    names = {type(module).__module__ for _, module in model.named_modules()}
    return [sys.modules[name] for name in sorted(names) if hasattr(sys.modules[name], _ATTENTION)]


@contextmanager
def routed(modules: Sequence[ModuleType]) -> Iterator[None]:
    """Within, attention over an `OwnAttention` cache is that cache's own."""
    originals = [getattr(module, _ATTENTION) for module in modules]
    for module, original in zip(modules, originals, strict=True):
        setattr(module, _ATTENTION, _route(original))
    try:
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            setattr(module, _ATTENTION, original)


def _route(original: Any) -> Any:
    def attend(
        queries: mx.array,
        keys: Any,
        values: Any,
        cache: Any,
        scale: float,
        mask: mx.array | None,
        sinks: mx.array | None = None,
    ) -> mx.array:
        if isinstance(cache, OwnAttention):
            return cache.attend(queries, scale, sinks)
        return original(queries, keys, values, cache=cache, scale=scale, mask=mask, sinks=sinks)

    return attend
