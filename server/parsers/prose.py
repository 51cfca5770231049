"""The text and the reasoning between tool calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..events import Delta, ReasoningDelta, TextDelta
from .source import Reading, Source


class Prose:
    """Reads text and reasoning into deltas.

    White space is dropped around reasoning and before calls: templates write their own there, and what
    comes back in the next turn must render as it was generated. `watch` sees all text that is passed on.
    `only_at_the_beginning`: reasoning that starts behind text is none.
    """

    def __init__(
        self,
        source: Source,
        emit: Callable[[Delta], None],
        starts: Sequence[str] = (),
        ends: Sequence[str] = (),
        opens_reasoning: bool = False,
        watch: Callable[[str], None] | None = None,
        only_at_the_beginning: bool = False,
    ) -> None:
        self._source = source
        self._emit = emit
        self._starts = tuple(starts)
        self._ends = tuple(ends)
        self._is_reasoning = opens_reasoning
        self._drops_space = opens_reasoning
        self._space = ""
        self._watch = watch
        self._only_at_the_beginning = only_at_the_beginning
        self._has_text = False
        self._may_turn = True
        """Whether something other than text may follow the text."""

    def until(self, openers: Sequence[str]) -> Reading[str]:
        """Pass text on up to the first of `openers`; read that and return it, "" at the end of the answer.

        An opener inside reasoning ends the reasoning: models forget
        to close it before they call.
        """
        self._may_turn = bool(openers or (self._starts and not self._only_at_the_beginning))
        while True:
            markers = (*openers, *self._ends, *self._starts)
            write = self.reason if self._is_reasoning else self.text
            marker = yield from self._source.until(markers, write)
            if marker in openers or not marker:
                self.end_stretch(keep_space=not marker and not self._is_reasoning)
                return marker
            if self._is_reasoning:
                becomes_reasoning = marker not in self._ends
            else:
                becomes_reasoning = marker in self._starts and not (self._only_at_the_beginning and self._has_text)
            if becomes_reasoning != self._is_reasoning:  # else it is a slip: the mark goes, what is around it stays
                self.end_stretch(keep_space=False)
                self._is_reasoning = becomes_reasoning

    def text(self, text: str) -> None:
        """Write text; trailing white space waits for what follows it, where that may be something else than text."""
        self._write(text, TextDelta)
        if self._watch is not None:
            self._watch(text)

    def reason(self, text: str) -> None:
        self._write(text, ReasoningDelta)

    def _write(self, text: str, delta: type[TextDelta] | type[ReasoningDelta]) -> None:
        is_last = delta is TextDelta and self._has_text and not self._may_turn
        body = text if is_last else text.rstrip()
        if not body:
            self._space += text
            return
        space_behind = text[len(body) :]
        if delta is TextDelta:
            self._has_text = True
        if self._drops_space:
            body, self._space, self._drops_space = body.lstrip(), "", False
        self._emit(delta(self._space + body))
        self._space = space_behind

    def end_stretch(self, keep_space: bool = False) -> None:
        """What follows is of another kind."""
        if keep_space and self._space and not self._drops_space:
            self._emit(TextDelta(self._space))
        self._space = ""
        self._drops_space = True
