"""How the caches of decoding rows stand together for one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import mlx.core as mx

from ..cache.codec import LayerCache
from .messages import Batching

Forward: TypeAlias = Callable[..., mx.array]
"""A model, or what stands for one: token ids [B, L] and `cache` → logits [B, L, vocabulary]."""


class DecodeLayout(Protocol):
    """Rows are numbered in the order they joined; a leaving row's number goes to those after it."""

    @property
    def takes_drafts(self) -> bool:
        """Whether rows may be fed several tokens and take some of them back."""
        ...

    @property
    def batching(self) -> Batching:
        """What is known now of how rows are decoded together."""
        ...

    def settle(self) -> bool:
        """Do a piece of what is still to be found out about the model; whether there is more."""
        ...

    @property
    def overruns(self) -> bool:
        """Whether a row may be extracted that holds a token more than counts."""
        ...

    def may_draft(self, row: int) -> bool:
        """Whether the row may be fed a draft in the next step, where the layout takes drafts at all."""
        ...

    def join(self, caches: list[LayerCache]) -> None:
        """Add a row whose prompt is computed. The caches belong to the layout from now on."""
        ...

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        """Feed each row its tokens: the logits after each, shape [rows, most tokens, vocabulary].

        There is one token a row, or more where the layout takes drafts. What stands behind a row's last
        token in the result means nothing. One token a row may also come as an array, [rows, 1], that is
        yet to be computed.
        """
        ...

    def accept(self, counts: Sequence[int]) -> None:
        """Keep this many of the tokens each row was just fed. Follows every `forward`."""
        ...

    def aligned(self, values: mx.array) -> mx.array:
        """Of something the last `forward` has for each token it fed: in the order and places of its logits."""
        ...

    def extract(self, row: int) -> list[LayerCache]:
        """The row's caches, alone, to be read and let go before the next call of another method."""
        ...

    def leave(self, row: int) -> None:
        """Remove a row."""
        ...


class Decided:
    """A layout about which nothing is left to find out."""

    def settle(self) -> bool:
        return False


class _Undrafted(Decided):
    """A layout that feeds every row one token."""

    takes_drafts = False
    overruns = False

    def may_draft(self, row: int) -> bool:
        del row
        return False

    def aligned(self, values: mx.array) -> mx.array:
        return values


class SerialLayout(_Undrafted):
    """One forward pass a row: right for every model."""

    batching = Batching("serial")

    def __init__(self, model: Forward) -> None:
        self._model = model
        self._rows: list[list[LayerCache]] = []

    def join(self, caches: list[LayerCache]) -> None:
        self._rows.append(caches)

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        inputs = _as_array(token_ids)
        logits = [self._model(inputs[row : row + 1], cache=caches) for row, caches in enumerate(self._rows)]
        return logits[0] if len(logits) == 1 else mx.concatenate(logits)

    def accept(self, counts: Sequence[int]) -> None:
        assert all(count == 1 for count in counts)

    def extract(self, row: int) -> list[LayerCache]:
        return self._rows[row]

    def leave(self, row: int) -> None:
        del self._rows[row]


class PaddedLayout(_Undrafted):
    """mlx-lm's batch caches: rows of one tensor, padded on the left to the longest."""

    batching = Batching("padded")

    def __init__(self, model: Forward) -> None:
        self._model = model
        self._batch: list[Any] = []
        self._num_rows = 0

    def join(self, caches: list[LayerCache]) -> None:
        row = [type(cache).merge([cache]) for cache in caches]
        if self._num_rows == 0:
            self._batch = row
        else:
            for batch, added in zip(self._batch, row, strict=True):
                batch.extend(added)
        self._num_rows += 1

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        return self._model(_as_array(token_ids), cache=self._batch)

    def accept(self, counts: Sequence[int]) -> None:
        assert all(count == 1 for count in counts)

    def extract(self, row: int) -> list[LayerCache]:
        return [batch.extract(row) for batch in self._batch]

    def leave(self, row: int) -> None:
        keep = [index for index in range(self._num_rows) if index != row]
        self._num_rows = len(keep)
        if keep:
            for batch in self._batch:
                batch.filter(keep)
        else:
            self._batch = []


def can_pad(caches: Sequence[LayerCache]) -> bool:
    """Whether mlx-lm can put caches of these kinds into one batch without losing anything.

    Its batch form of a rotating cache forgets `keep`, the first tokens a window never drops.
    """
    return all(
        can_pad(cache.caches)
        if hasattr(cache, "caches")
        else hasattr(type(cache), "merge") and not getattr(cache, "keep", 0)
        for cache in caches
    )


def _as_array(token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
    return token_ids if isinstance(token_ids, mx.array) else mx.array([list(fed) for fed in token_ids])
