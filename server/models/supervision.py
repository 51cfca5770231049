"""When an engine that died by itself is started again, and when it is left dead. No clock, no process."""

from __future__ import annotations

from collections import Counter

from ..fast_deaths import FAST_SECONDS, MAX_FAST_DEATHS

_REMEDY = "load it again on the dashboard's Models page, or restart omlx"


class Supervision:
    """The deaths of every model's engine. Three fast ones in a row stop a model until `forgive`.

    A death is fast when the engine had been ready for less than a minute, or never was. `remedy` is what has a stopped
    model tried again.
    """

    def __init__(self, remedy: str = _REMEDY) -> None:
        self._remedy = remedy
        self._reasons: dict[str, str] = {}
        self._fast: Counter[str] = Counter()

    @property
    def failed(self) -> dict[str, str]:
        """Why the engines died in whose place no other is ready yet, by model."""
        return dict(self._reasons)

    def died(self, model_id: str, reason: str, ready_seconds: float, *, may_load: bool = False) -> bool:
        """Note a death; whether the engine is worth starting again by itself. One that never got ready is not, unless
        it `may_load` the next time: it would most likely meet the same again."""
        self._fast[model_id] = self._fast[model_id] + 1 if ready_seconds < FAST_SECONDS else 0
        if self.is_stopped(model_id):
            reason = (
                f"{model_id} was stopped: its engine died {MAX_FAST_DEATHS} times in a row, at last because {reason}. "
                f"Mend that, then {self._remedy}"
            )
        self._reasons[model_id] = reason
        return (ready_seconds > 0 or may_load) and not self.is_stopped(model_id)

    def outlook(self, model_id: str, *, try_again: bool) -> str:
        """What follows on the death noted last, in a sentence."""
        if self.is_stopped(model_id):
            return self._reasons[model_id]
        if not try_again:
            return "The next request for it starts another"
        row = f": quick death {self._fast[model_id]} of {MAX_FAST_DEATHS}" if self._fast[model_id] else ""
        return f"It is started again{row}"

    def ended(self, model_id: str, ready_seconds: float) -> None:
        """Note an end that was asked for: a long life is no part of a row, however it ends."""
        if ready_seconds >= FAST_SECONDS:
            self._fast.pop(model_id, None)

    def is_stopped(self, model_id: str) -> bool:
        return self._fast[model_id] >= MAX_FAST_DEATHS

    def ready(self, model_id: str) -> None:
        """A new engine has taken the dead one's place."""
        self._reasons.pop(model_id, None)

    def forgive(self, model_id: str) -> None:
        """Let a stopped model be tried again."""
        self._fast.pop(model_id, None)
        self._reasons.pop(model_id, None)
