"""How the caches of decoding rows stand together for one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import mlx.core as mx

from ..cache.codec import LayerCache
from .messages import Batching
from .taking_back import can_take_back, keep_first, snapshot

Forward: TypeAlias = Callable[..., mx.array]
"""A model, or what stands for one: token ids [B, L] and `cache` → logits [B, L, vocabulary]."""


class DecodeLayout(Protocol):
    """Rows are numbered in the order they joined; a leaving row's number goes to those after it."""

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
        """Whether the row may be fed several tokens in the next step and take some of them back."""
        ...

    def join(self, caches: list[LayerCache]) -> None:
        """Add a row whose prompt is computed. The caches belong to the layout from now on."""
        ...

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        """Feed each row its tokens: the logits after each, shape [rows, most tokens, vocabulary].

        There is one token a row, or more where it may be fed a draft. What stands behind a row's last
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

    def check(self, num_rows: int) -> None:
        """Called between steps: raises `AssertionError` where it does not hold so many rows, or more for them than is
        theirs."""
        ...


class Decided:
    """A layout about which nothing is left to find out, and whose model computes rows in their own order."""

    def settle(self) -> bool:
        return False

    def aligned(self, values: mx.array) -> mx.array:
        return values


class SerialLayout(Decided):
    """One forward pass a row: right for every model."""

    batching = Batching("serial")
    overruns = False

    def __init__(self, model: Forward) -> None:
        self._model = model
        self._rows: list[list[LayerCache]] = []
        self._fed: list[list[int]] = []
        self._before: list[list[LayerCache] | None] = []
        """Each row before the step, where it was fed a draft."""

    def may_draft(self, row: int) -> bool:
        return can_take_back(self._rows[row])

    def join(self, caches: list[LayerCache]) -> None:
        self._rows.append(caches)

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        fed: Any = token_ids.tolist() if isinstance(token_ids, mx.array) else token_ids
        self._fed = [list(tokens) for tokens in fed]
        self._before = [
            snapshot(caches) if len(tokens) > 1 else None for caches, tokens in zip(self._rows, self._fed, strict=True)
        ]
        logits = [
            self._model(mx.array([tokens]), cache=caches) for caches, tokens in zip(self._rows, self._fed, strict=True)
        ]
        if len(logits) == 1:
            return logits[0]
        width = max(map(len, self._fed))
        return mx.concatenate([mx.pad(row, [(0, 0), (0, width - row.shape[1]), (0, 0)]) for row in logits])

    def accept(self, counts: Sequence[int]) -> None:
        for row, (before, fed, count) in enumerate(zip(self._before, self._fed, counts, strict=True)):
            if before is not None:
                self._rows[row] = keep_first(self._model, self._rows[row], before, fed, count)
        self._before = []

    def extract(self, row: int) -> list[LayerCache]:
        return self._rows[row]

    def leave(self, row: int) -> None:
        del self._rows[row]

    def check(self, num_rows: int) -> None:
        assert len(self._rows) == num_rows, f"caches of {len(self._rows)} rows, not {num_rows}"
        assert not any(self._before), "a step has not been accepted"


class PaddedLayout(Decided):
    """mlx-lm's batch caches: rows of one tensor, padded on the left to the longest. A lone row keeps its own caches,
    and is the only one that takes drafts: rows of a tensor would each have to keep another number of tokens."""

    batching = Batching("padded")
    overruns = False

    def __init__(self, model: Forward) -> None:
        self._model = model
        self._lone = SerialLayout(model)
        self._batch: list[Any] = []
        """Empty while there is no second row."""
        self._num_rows = 0

    def may_draft(self, row: int) -> bool:
        return self._num_rows == 1 and self._lone.may_draft(row)

    def join(self, caches: list[LayerCache]) -> None:
        if self._num_rows == 0:
            self._lone.join(caches)
        else:
            if self._num_rows == 1:
                self._batch = _merged(self._lone.extract(0))
                self._lone.leave(0)
            for batch, added in zip(self._batch, _merged(caches), strict=True):
                batch.extend(added)
        self._num_rows += 1

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        if not self._batch:
            return self._lone.forward(token_ids)
        inputs = token_ids if isinstance(token_ids, mx.array) else mx.array([list(fed) for fed in token_ids])
        return self._model(inputs, cache=self._batch)

    def accept(self, counts: Sequence[int]) -> None:
        if self._batch:
            assert all(count == 1 for count in counts)
        else:
            self._lone.accept(counts)

    def extract(self, row: int) -> list[LayerCache]:
        return [batch.extract(row) for batch in self._batch] if self._batch else self._lone.extract(row)

    def leave(self, row: int) -> None:
        self._num_rows -= 1
        if self._num_rows == 0:
            self._lone.leave(0)
        elif self._num_rows == 1:
            self._lone.join(self.extract(1 - row))
            self._batch = []
        else:
            keep = [index for index in range(self._num_rows + 1) if index != row]
            for batch in self._batch:
                batch.filter(keep)

    def check(self, num_rows: int) -> None:
        assert self._num_rows == num_rows, f"a batch of {self._num_rows} rows, not {num_rows}"
        assert bool(self._batch) == (num_rows > 1), "a batch without rows, or rows without one"
        self._lone.check(num_rows if num_rows == 1 else 0)


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


def _merged(caches: Sequence[LayerCache]) -> list[Any]:
    """A row in the form of a batch."""
    return [type(cache).merge([cache]) for cache in caches]
