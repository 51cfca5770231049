"""Drafts by a model's own MTP layer: one token a step, from the states the model has computed anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from ..models.mtp_model import MtpModel
from .rewinding_layout import RewindingLayout

_MOST_PENDING = 128
"""States of a row that wait for its next draft. A row that gets no draft for longer begins anew with the last ones."""


@dataclass(slots=True)
class _Row:
    """`pending` ends with the states that the last `num_pending` tokens were chosen from, in pieces [1, n, …]."""

    token_ids: Sequence[int]
    pending: list[mx.array] = field(default_factory=list)
    num_pending: int = 0
    has_joined: bool = False


class MtpDrafter:
    """Implements `Drafter`. The layer's cache of a row holds what the row has accepted since it began to decode."""

    name = "mtp"

    def __init__(self, model: MtpModel) -> None:
        self._model = model
        self._layout = RewindingLayout(self._run)
        self._rows: dict[str, _Row] = {}
        self._order: list[str] = []
        """The rows in the layout."""
        self._hidden = mx.zeros((0,))
        """The states that go with the tokens of the next call."""

    def join(self, key: str, token_ids: Sequence[int]) -> None:
        self._rows[key] = _Row(token_ids)

    def observe(self, key: str, hidden: Any) -> None:
        row = self._rows[key]
        if hidden.shape[1] > _MOST_PENDING:  # a view would hold all of a prompt's states until the next draft
            hidden = mx.contiguous(hidden[:, -_MOST_PENDING:])
            mx.async_eval(hidden)
        row.pending.append(hidden)
        held = sum(piece.shape[1] for piece in row.pending)
        if held > _MOST_PENDING:
            self._part(key)
        while held - row.pending[0].shape[1] >= _MOST_PENDING:
            held -= row.pending.pop(0).shape[1]
        row.num_pending = min(held, _MOST_PENDING)

    def draft(self, limits: Mapping[str, int]) -> dict[str, list[int]]:
        wanted = [key for key, limit in limits.items() if limit > 0 and self._rows[key].num_pending]
        if not wanted:
            return {}
        for key in wanted:
            if not self._rows[key].has_joined:
                self._layout.join(self._model.make_draft_cache())
                self._order.append(key)
                self._rows[key].has_joined = True
        counts = [self._rows[key].num_pending for key in self._order]
        logits = self._layout.forward(self._gather())
        self._layout.accept(counts)
        last = logits[mx.arange(len(counts)), mx.array([max(count, 1) - 1 for count in counts])]
        guesses: Any = mx.argmax(last, axis=-1).tolist()
        found = dict(zip(self._order, guesses, strict=True))
        return {key: [found[key]] for key in wanted}

    def leave(self, key: str) -> None:
        if key in self._rows:
            self._part(key)
            del self._rows[key]

    def check(self) -> None:
        held = {*self._rows, *self._order}
        assert not held, f"states of rows that have ended: {held}"
        self._layout.check(0)

    def _part(self, key: str) -> None:
        """Forget what the layer has seen of the row."""
        if self._rows[key].has_joined:
            self._layout.leave(self._order.index(key))
            self._order.remove(key)
            self._rows[key].has_joined = False

    def _gather(self) -> list[list[int]]:
        """Each row's pending tokens, their states beside them. A row without any gets one that will not count."""
        rows = [self._rows[key] for key in self._order]
        width = max(row.num_pending for row in rows)
        tokens: list[list[int]] = []
        states: list[mx.array] = []
        like = next(row.pending[0] for row in rows if row.pending)
        for row in rows:
            tokens.append(list(row.token_ids[-row.num_pending :]) if row.num_pending else [0])
            blank = mx.zeros((1, width - row.num_pending, *like.shape[2:]), like.dtype)
            states.append(mx.concatenate([*row.pending, blank], axis=1)[:, -width:])
            row.pending, row.num_pending = [], 0
        self._hidden = mx.concatenate(states)
        return tokens

    def _run(self, token_ids: mx.array, cache: Sequence[Any]) -> mx.array:
        return self._model.draft(token_ids, self._hidden, cache)
