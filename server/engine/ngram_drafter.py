"""Drafts without a model: what followed the same words before probably follows them again.

An answer that repeats pieces of its prompt, as an edited file does, gets most of its tokens that way.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_LOOK_BACK = 3
"""Tokens that have to agree for a guess."""
_LONGEST_DRAFT = 16
_MOST_AGREED = 16
_MOST_PLACES = 8
"""Looked at for one guess: many rows may ask for one in the same step."""


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

    def check(self) -> None:
        assert not self._rows, f"texts of rows that have ended: {[*self._rows]}"


class _Repeats:
    """Where one text repeats itself."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids = token_ids
        self._after: dict[tuple[int, ...], int] = {}
        """Where the text went on after these tokens the last time."""
        self._before = array("i")
        """For each place, where it went on after the same tokens the time before; 0 where there was none."""
        self._distance = 0
        """How far back the last guess was found. A copy goes on there, however often its words stand elsewhere."""

    def draft(self, limit: int) -> list[int]:
        """A guess at the next tokens, at most `limit`, from where the most of the text before agrees, and the longer
        the more does. Where nothing does, a copy is taken to go on behind a word or two that were changed."""
        self._look_through()
        if limit <= 0:
            return []
        tokens = self._token_ids
        agreed, start = 0, 0
        for place in self._places():
            agrees = self._agreement(place)
            if agrees > agreed:
                agreed, start = agrees, place
            if agreed == _MOST_AGREED:
                break
        if agreed < _LOOK_BACK and 0 < self._distance < len(tokens):
            start = len(tokens) - self._distance
            agreed = max(self._agreement(start, num_changed) for num_changed in (1, 2))
        if agreed < _LOOK_BACK:
            return []
        self._distance = len(tokens) - start
        guess: list[int] = []
        for place in range(start, start + min(limit, 2 * agreed, _LONGEST_DRAFT)):
            # Past the end of the text the guess goes on with itself: something is being repeated.
            guess.append(tokens[place] if place < len(tokens) else guess[place - len(tokens)])
        return guess

    def _places(self) -> Iterator[int]:
        """Where the text may go on: as far back as the last time, and after the last places where it stood so."""
        if 0 < self._distance < len(self._token_ids):
            yield len(self._token_ids) - self._distance
        place = self._after.get(tuple(self._token_ids[-_LOOK_BACK:]), 0)
        for _ in range(_MOST_PLACES):
            if not place:
                return
            yield place
            place = self._before[place]

    def _agreement(self, place: int, num_left_out: int = 0) -> int:
        """How many tokens before the place are those at the end of the text, at most `_MOST_AGREED`, without the very
        last ones where some are left out."""
        tokens, agreed, step = self._token_ids, 0, _MOST_AGREED
        theirs, ours = place - num_left_out, len(self._token_ids) - num_left_out
        while step and agreed < _MOST_AGREED:
            if theirs >= step and tokens[theirs - step : theirs] == tokens[ours - step : ours]:
                agreed, theirs, ours = agreed + step, theirs - step, ours - step
            step //= 2
        return agreed

    def _look_through(self) -> None:
        tokens = self._token_ids
        for place in range(len(self._before), len(tokens)):
            before = tuple(tokens[max(0, place - _LOOK_BACK) : place])
            self._before.append(self._after.get(before, 0))
            self._after[before] = place
