"""How long a row has thought, and when its thinking is closed for it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence

from .messages import ThinkingBudget


class RowThinking:
    """Counts the tokens inside a row's thinking, all its stretches together, until they reach the budget.

    The marks are known as the token ids that `ThinkingBudget` spells them with; they do not count.
    """

    def __init__(self, budget: ThinkingBudget) -> None:
        self._start, self._end = budget.start_ids, budget.end_ids
        self._is_open = budget.is_open
        self._left = budget.num_tokens
        self._tail: deque[int] = deque(maxlen=max(len(self._start), len(self._end)))

    @property
    def forced(self) -> int | None:
        """The token that has to come next, None while any may: the closing mark, gone on with where it has begun."""
        if not self._is_open or self._left > 0:
            return None
        return self._end[self._num_begun()]

    @property
    def num_free(self) -> int:
        """So many tokens behind the next one may be chosen without looking here in between."""
        return max(self._left - 1, 0) if self._is_open or self._left > 0 else sys.maxsize

    def observe(self, token_id: int) -> None:
        """The row generated this token."""
        self._tail.append(token_id)
        if not self._is_open:
            self._is_open = self._ends_with(self._start)
        elif self._ends_with(self._end):
            self._is_open = False
        else:
            self._left -= 1

    def _num_begun(self) -> int:
        """How many tokens of the closing mark the row has written already."""
        return next((count for count in range(len(self._end) - 1, 0, -1) if self._ends_with(self._end[:count])), 0)

    def _ends_with(self, mark: Sequence[int]) -> bool:
        return len(self._tail) >= len(mark) and list(self._tail)[-len(mark) :] == mark
