"""A layout that is chosen when there is time for it, or when the first row gets company."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import mlx.core as mx

from ..cache.codec import LayerCache
from .decode_layout import DecodeLayout, Forward, SerialLayout
from .layout_choice import LayoutChoice, Trial, try_layouts
from .messages import Batching
from .paged_layout import PagedLayout
from .slot_layout import LARGE_ROW_TOKENS

logger = logging.getLogger(__name__)

_PATIENT_STEPS = 16
"""A row that has gone on for so long without company or a quiet moment makes the trial, so that company need not."""

_NOT_YET = "rows have not been decoded together yet"


class DeferredLayout:
    """A `DecodeLayout` that decodes a lone row alone, which is right for every model, until `try_layouts` has said
    how several go together. No second row is taken in before that."""

    def __init__(
        self, model: Forward, make_cache: Callable[[], list[LayerCache]], large_row_tokens: int = LARGE_ROW_TOKENS
    ) -> None:
        self._trial: Trial[LayoutChoice] | None = try_layouts(model, make_cache, large_row_tokens)
        self._layout: DecodeLayout = SerialLayout(model)
        self._batching = Batching("undecided", _NOT_YET, "undecided", _NOT_YET)
        self._num_rows = 0
        self._num_steps = 0

    @property
    def batching(self) -> Batching:
        return self._batching

    @property
    def has_slots(self) -> bool:
        """Whether rows share slots, or may once it is chosen; pages leave none idle."""
        return not isinstance(self._layout, PagedLayout)

    @property
    def overruns(self) -> bool:
        return self._layout.overruns

    def may_draft(self, row: int) -> bool:
        return self._layout.may_draft(row)

    def aligned(self, values: mx.array) -> mx.array:
        return self._layout.aligned(values)

    def settle(self) -> bool:
        if self._trial is not None:
            try:
                next(self._trial)
            except StopIteration as done:
                self._take(done.value)
        return self._trial is not None

    def join(self, caches: list[LayerCache]) -> None:
        while self._num_rows and self.settle():
            pass
        self._layout.join(caches)
        self._num_rows += 1

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        return self._layout.forward(token_ids)

    def accept(self, counts: Sequence[int]) -> None:
        self._layout.accept(counts)
        self._num_steps += 1
        if self._num_steps > _PATIENT_STEPS:
            self.settle()

    def extract(self, row: int) -> list[LayerCache]:
        return self._layout.extract(row)

    def leave(self, row: int) -> None:
        self._layout.leave(row)
        self._num_rows -= 1

    def check(self, num_rows: int) -> None:
        assert self._num_rows == num_rows, f"{self._num_rows} rows, not {num_rows}"
        self._layout.check(num_rows)

    def _take(self, choice: LayoutChoice) -> None:
        """Go on in the layout that was chosen, with the row there may be."""
        self._trial, self._batching = None, choice.batching
        if choice.batching.drafting != "all":
            which = "Only a row decoded alone" if choice.batching.drafting == "lone" else "No row"
            logger.info("%s takes drafts: %s", which, choice.batching.drafting_reason)
        if self._num_rows:
            choice.layout.join(self._layout.extract(0))
        self._layout = choice.layout
