"""What a model offers whose MTP layer is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx


class MtpModel(Protocol):
    """`cache` is a list of mlx-lm's cache objects or of the model's own, one a layer."""

    def forward(self, inputs: mx.array, cache: Sequence[Any] | None = None) -> tuple[mx.array, mx.array]:
        """The logits of token ids [B, L], and each position's state [B, L, …]."""
        ...

    def draft(self, token_ids: mx.array, hidden: mx.array, cache: Sequence[Any]) -> mx.array:
        """The logits of the tokens after `token_ids` [B, L], each of which follows a position with that state."""
        ...

    def make_draft_cache(self) -> list[Any]:
        """An empty cache of one row for `draft`."""
        ...
