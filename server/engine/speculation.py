"""Speculation: several tokens out of one step, where somebody guesses them right.

A guess is fed along with a row's last token, and the model's own choice at every place says how much of it was right.
So a drafter can only cost time, never change an answer. Whether it pays is measured, row by row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .messages import DraftStats

_FIRST_PRICE = 1.6
"""How much longer a step with a draft takes, until it has been measured."""
_MARGIN = 1.1
_KNOWN_DRAFTS, _LEAST_SHARE = 8, 0.25
"""So many drafts say how many tokens of others will be right, but never less than this share: texts differ."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 16, 256
_SMOOTHING = 0.25


class Drafter(Protocol):
    """Guesses how rows go on. A row is known by its request's id, `key`."""

    name: str

    def join(self, key: str, token_ids: Sequence[int]) -> None:
        """A row begins to decode. `token_ids`, its prompt and what follows, grows as the row goes on."""
        ...

    def observe(self, key: str, hidden: Any) -> None:
        """The states, [1, n, …], that the model chose the last n of the row's tokens from.

        Only called where the model gives its states.
        """
        ...

    def draft(self, limits: Mapping[str, int]) -> dict[str, list[int]]:
        """Guesses for these rows, at most so many tokens each; rows without one are left out."""
        ...

    def leave(self, key: str) -> None:
        """The row has ended. Unknown keys are ignored."""
        ...

    def check(self) -> None:
        """Called when no row is left: raises `AssertionError` where something is still held for one."""
        ...


@dataclass(frozen=True, slots=True)
class Draft:
    token_ids: list[int] = field(default_factory=list)
    drafter: str = ""


@dataclass(slots=True)
class DraftCount:
    """What one drafter has brought: steps of rows, tokens guessed, tokens of those that were right; and of the steps
    whose price was measured, the tokens that they brought and their time in steps without a draft."""

    num_drafts: int = 0
    num_tokens: int = 0
    num_accepted: int = 0
    num_priced: int = 0
    price: float = 0.0

    def expected(self, num_tokens: int) -> float:
        """How many of a draft's tokens will be right; all of them until some have been seen."""
        if self.num_drafts < _KNOWN_DRAFTS:
            return num_tokens
        return num_tokens * max(_LEAST_SHARE, self.num_accepted / self.num_tokens)

    @property
    def speedup(self) -> float:
        """Tokens a step with drafts brought in the time that one without brings one; 0 until measured."""
        return self.num_priced / self.price if self.price else 0.0


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

    @property
    def gain(self) -> float:
        """The tokens that a step with a draft brings, where that was seen lately; else 0."""
        return self._gain

    def observe(self, num_tokens: int, price: float) -> None:
        """A step with a draft brought `num_tokens` and took `price` times as long as one without."""
        self._gain = num_tokens if self._gain == 0 else self._gain + _SMOOTHING * (num_tokens - self._gain)
        if self._gain >= price * _MARGIN:
            self._pause = _SHORTEST_PAUSE
            return
        self._wait, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        self._gain = 0.0


class StepPrices:
    """How long steps take, by the number of rows and by who drafted, "" where nobody did.

    The first step of each kind is left out: it compiles kernels, which no later one does. Where steps overlap, a step
    with a draft ends that, and beginning anew is part of its price.
    """

    def __init__(self) -> None:
        self._begun: set[tuple[int, str]] = set()
        self._seconds: dict[tuple[int, str], float] = {}
        self._restart_seconds = 0.0

    def observe(self, num_rows: int, drafters: str, seconds: float) -> None:
        if (num_rows, drafters) not in self._begun:
            self._begun.add((num_rows, drafters))
            return
        known = self._seconds.get((num_rows, drafters), seconds)
        self._seconds[num_rows, drafters] = known + _SMOOTHING * (seconds - known)

    def observe_restart(self, num_rows: int, seconds: float) -> None:
        """The first of steps that overlap took so long: its own time is on top of that of the others."""
        plain = self._seconds.get((num_rows, ""))
        if plain:
            self._restart_seconds += _SMOOTHING * (max(0.0, seconds - plain) - self._restart_seconds)

    def has_measured(self, num_rows: int, drafters: str) -> bool:
        """Whether `price` is more than a guess."""
        return bool(self._seconds.get((num_rows, "")) and self._seconds.get((num_rows, drafters)))

    def price(self, num_rows: int, drafters: str) -> float:
        """A drafted step's time in steps without; a guess until both have been seen."""
        plain, drafted = self._seconds.get((num_rows, "")), self._seconds.get((num_rows, drafters))
        return _FIRST_PRICE if not plain or not drafted else (drafted + self._restart_seconds) / plain


class Speculation:
    """The drafters of one batch: the first that has a guess for a row is asked no further."""

    def __init__(self, drafters: Sequence[Drafter]) -> None:
        self._drafters = tuple(drafters)
        self._controls: dict[str, dict[str, DraftControl]] = {}
        self._prices = StepPrices()
        self.counts = {drafter.name: DraftCount() for drafter in drafters}

    def anew(self, *drafters: Drafter) -> Speculation:
        """With these drafters too, and nothing measured yet."""
        return Speculation([*self._drafters, *drafters])

    @property
    def stats(self) -> list[DraftStats]:
        return [
            DraftStats(drafter, count.num_drafts, count.num_tokens, count.num_accepted, count.speedup)
            for drafter, count in self.counts.items()
        ]

    def join(self, key: str, token_ids: Sequence[int], without: Collection[str] = ()) -> None:
        """A row begins to decode; the drafters named in `without` are not asked for it."""
        serving = [drafter for drafter in self._drafters if drafter.name not in without]
        self._controls[key] = {drafter.name: DraftControl() for drafter in serving}
        for drafter in serving:
            drafter.join(key, token_ids)

    def observe(self, key: str, hidden: Any) -> None:
        """See `Drafter.observe`."""
        for drafter in self._drafters:
            if drafter.name in self._controls[key]:
                drafter.observe(key, hidden)

    def draft(self, limits: Mapping[str, int], num_rows: int) -> dict[str, Draft]:
        """A guess for each of these rows that has one, where all `num_rows` that wait for it are likely to gain."""
        found: dict[str, Draft] = {}
        for drafter in self._drafters:
            wanted = {
                key: limit for key, limit in limits.items() if key not in found and self._wants(key, drafter.name)
            }
            if wanted:
                drafts = drafter.draft(wanted)
                found |= {key: Draft(token_ids, drafter.name) for key, token_ids in drafts.items() if token_ids}
        return found if self._pays(found, num_rows) else {}

    def _pays(self, drafts: Mapping[str, Draft], num_rows: int) -> bool:
        """Whether the tokens that these drafts may bring are worth a longer step to the rows without one.

        Many rows that each try now and then would otherwise make every step a long one. What a row may try for itself,
        its control says.
        """
        hoped = 0.0
        for key, draft in drafts.items():
            gain = self._controls[key][draft.drafter].gain
            hoped += gain - 1 if gain else self.counts[draft.drafter].expected(len(draft.token_ids))
        return hoped >= (self._prices.price(num_rows, _names(drafts)) - 1) * (num_rows - len(drafts))

    def measure_restart(self, num_rows: int, seconds: float) -> None:
        """A step without drafts took so long that was the first of several that overlap."""
        self._prices.observe_restart(num_rows, seconds)

    def measure(self, num_rows: int, seconds: float, drafts: Mapping[str, Draft], brought: Mapping[str, int]) -> None:
        """A step of `num_rows` rows took so long, drafting included, and brought the drafted rows so many tokens."""
        drafters = _names(drafts)
        self._prices.observe(num_rows, drafters, seconds)
        # All rows wait for the longer step, and the drafted ones have to make up for that.
        waiting = num_rows / max(1, len(drafts))
        for key, draft in drafts.items():
            if draft.drafter not in self.counts:
                continue  # another rank's: its own books are kept there
            price, count = self._prices.price(num_rows, drafters), self.counts[draft.drafter]
            self._controls[key][draft.drafter].observe(brought[key], 1 + (price - 1) * waiting)
            count.num_drafts += 1
            count.num_tokens += len(draft.token_ids)
            count.num_accepted += brought[key] - 1
            if self._prices.has_measured(num_rows, drafters):
                count.num_priced += brought[key]
                count.price += price

    def leave(self, key: str) -> None:
        self._controls.pop(key, None)
        for drafter in self._drafters:
            drafter.leave(key)

    def check(self) -> None:
        """See `Drafter.check`."""
        assert not self._controls, f"drafts for rows that have ended: {[*self._controls]}"
        for drafter in self._drafters:
            drafter.check()

    def _wants(self, key: str, drafter: str) -> bool:
        control = self._controls[key].get(drafter)
        return control is not None and control.wants_draft()


def _names(drafts: Mapping[str, Draft]) -> str:
    """Who drafted, as one name."""
    return "+".join(sorted({draft.drafter for draft in drafts.values()}))
