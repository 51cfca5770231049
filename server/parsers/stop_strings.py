"""Stop strings, cut at text level wherever the tokens fall."""

from __future__ import annotations

from collections.abc import Sequence

from .marks import Marks


class StopStrings:
    """Passes text on up to the first stop string, holding back only what may be the beginning of one.

    `found` is the stop string that ended the text. Of two that begin at one place the one completed first wins.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._marks = Marks(self._stops)
        self._held = ""
        self.found = ""

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._stops)

    def feed(self, text: str) -> str:
        if self.found or not self._stops:
            return "" if self.found else text
        self._held += text
        _, position, stop = min(
            ((at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0),
            default=(0, 0, ""),
        )
        if stop:
            self.found = stop
            passed, self._held = self._held[:position], ""
            return passed
        keep = self._marks.held_back(self._held)
        passed = self._held[: len(self._held) - keep]
        self._held = self._held[len(passed) :]
        return passed

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held
