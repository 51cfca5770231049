"""The last step: no mark of the model's formats stands in text or reasoning."""

from __future__ import annotations

from collections.abc import Iterable

from ..events import Delta, ReasoningDelta, TextDelta
from .marks import marks


class Scrubber:
    """Takes marks out of prose, across deltas too, and where taking one out would make another.

    Grammars read the marks that mean something; what is left over is a model's slip.
    """

    def __init__(self, markers: Iterable[str]) -> None:
        self._marks = marks(*markers)
        self._reach = self._marks.reach
        self._kind: type[TextDelta] | type[ReasoningDelta] = TextDelta
        self._held = ""
        self._tail = ""

    def feed(self, deltas: Iterable[Delta]) -> list[Delta]:
        scrubbed: list[Delta] = []
        for delta in deltas:
            if not isinstance(delta, self._kind):
                scrubbed += self.finish()
            elif self._passes(delta.text):
                scrubbed.append(delta)
                continue
            if isinstance(delta, TextDelta | ReasoningDelta):
                self._kind = type(delta)
                text = self._scrub(delta.text)
                scrubbed += [self._kind(text)] if text else []
            else:
                scrubbed.append(delta)
        return scrubbed

    def _passes(self, text: str) -> bool:
        """Whether no mark begins in the text or before it, as in most pieces."""
        return not self._held and not self._tail and not self._marks.may_begin_in(text)

    def finish(self) -> list[Delta]:
        """What was held back as the possible beginning of a mark."""
        held = self._scrub("", is_ended=True)
        self._tail = ""
        return [self._kind(held)] if held else []

    def _scrub(self, text: str, is_ended: bool = False) -> str:
        passed: list[str] = []
        self._held += text
        while True:
            window = self._tail + self._held
            start, marker, held = self._marks.look(window)
            sure = len(window) - (0 if is_ended else held)
            is_found = bool(marker) and start < sure
            keep = window[len(self._tail) : start if is_found else sure]
            self._held = window[start + len(marker) :] if is_found else window[max(sure, len(self._tail)) :]
            passed.append(keep)
            tail = (self._tail + keep)[-self._reach :] if self._reach else ""
            self._tail = tail if self._marks.may_begin_in(tail) else ""
            if not is_found:
                return "".join(passed)
