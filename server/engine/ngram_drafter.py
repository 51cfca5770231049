"""Drafts without a model: what followed the same words before probably follows them again.

An answer that repeats pieces of its prompt, as an edited file does, gets most of its tokens that way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LOOK_BACK = 3
"""Tokens that have to agree for a guess."""
_LONGEST_DRAFT = 16


class NgramDrafter:
    """Implements `Drafter`. A row's text is looked through when its first draft is asked for."""

    name = "ngram"

    def __init__(self) -> None:
        self._rows: dict[str, _Repeats] = {}

    def join(self, key: str, token_ids: Sequence[int]) -> None:
        self._rows[key] = _Repeats(token_ids)

    def observe(self, key: str, hidden: Any) -> None:
        pass

    def draft(self, limits: Mapping[str, int]) -> dict[str, list[int]]:
        return {key: self._rows[key].draft(limit) for key, limit in limits.items()}

    def leave(self, key: str) -> None:
        self._rows.pop(key, None)


class _Repeats:
    """Where one text repeats itself."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids = token_ids
        self._num_seen = 0
        self._after: dict[tuple[int, ...], int] = {}
        """Where the text went on after these tokens the last time."""

    def draft(self, limit: int) -> list[int]:
        """A guess at the next tokens, at most `limit`; longer the more of the text before agrees."""
        self._look_through()
        tokens = self._token_ids
        start = self._after.get(tuple(tokens[-_LOOK_BACK:]))
        if start is None or limit <= 0:
            return []
        agreed = _LOOK_BACK
        while agreed < _LONGEST_DRAFT and start > agreed and tokens[start - agreed - 1] == tokens[-agreed - 1]:
            agreed += 1
        guess: list[int] = []
        for place in range(start, start + min(limit, 2 * agreed, _LONGEST_DRAFT)):
            # Past the end of the text the guess goes on with itself: something is being repeated.
            guess.append(tokens[place] if place < len(tokens) else guess[place - len(tokens)])
        return guess

    def _look_through(self) -> None:
        tokens = self._token_ids
        for place in range(max(self._num_seen, _LOOK_BACK), len(tokens)):
            self._after[tuple(tokens[place - _LOOK_BACK : place])] = place
        self._num_seen = len(tokens)
