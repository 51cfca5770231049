"""Speculation without a draft model: what followed the same words before probably follows them again.

An answer that repeats pieces of its prompt, as an edited file does, gets several tokens out of one step:
the guess is fed along, and the model's own choice at every place says how much of it was right.
"""

from __future__ import annotations

from collections.abc import Sequence

_LOOK_BACK = 3
"""Tokens that have to agree for a guess."""
_LONGEST_DRAFT = 16
_FIRST_PRICE = 1.6
"""How much longer a step with a draft takes, until it has been measured."""
_MARGIN = 1.1
_SHORTEST_PAUSE, _LONGEST_PAUSE = 16, 256
_SMOOTHING = 0.25


class Drafter:
    """Knows one row's tokens, the prompt's and the answer's."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """Where the text went on after these tokens the last time."""
        self.extend(token_ids)

    def extend(self, token_ids: Sequence[int]) -> None:
        """The row goes on with these tokens."""
        for token_id in token_ids:
            if len(self._token_ids) >= _LOOK_BACK:
                self._after[tuple(self._token_ids[-_LOOK_BACK:])] = len(self._token_ids)
            self._token_ids.append(token_id)

    def draft(self, limit: int) -> list[int]:
        """A guess at the next tokens, at most `limit`; longer the more of the text before agrees."""
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


class DraftControl:
    """Decides for one row whether drafting pays, from what it has brought so far."""

    def __init__(self) -> None:
        self._gain = 0.0
        self._pause = _SHORTEST_PAUSE
        self._wait = 0

    def wants_draft(self) -> bool:
        """Asked once a step. After a pause one draft tries again."""
        if self._wait > 0:
            self._wait -= 1
            return False
        return True

    def observe(self, num_tokens: int, price: float) -> None:
        """A step with a draft brought `num_tokens` and took `price` times as long as one without."""
        self._gain = num_tokens if self._gain == 0 else self._gain + _SMOOTHING * (num_tokens - self._gain)
        if self._gain >= price * _MARGIN:
            self._pause = _SHORTEST_PAUSE
            return
        self._wait, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        self._gain = 0.0


class StepPrices:
    """How long steps take, by the number of rows, with drafts and without."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}
        self._drafted: dict[int, float] = {}

    def observe(self, num_rows: int, drafted: bool, seconds: float) -> None:
        table = self._drafted if drafted else self._plain
        known = table.get(num_rows, seconds)
        table[num_rows] = known + _SMOOTHING * (seconds - known)

    def price(self, num_rows: int) -> float:
        """A drafted step's time in steps without; a guess until both have been seen."""
        plain, drafted = self._plain.get(num_rows), self._drafted.get(num_rows)
        return _FIRST_PRICE if not plain or not drafted else drafted / plain
