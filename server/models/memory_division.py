"""How the loaded models divide the memory that models may take. Bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from .catalog import ENCODERS, ModelEntry
from .lease import E, Loaded

_AWAITED_SECONDS = 60
_WARM_SECONDS = 600
"""How long a model that is idle keeps its part, and what it has cached in that, unless a request needs the room."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a request was refused for want of: so much for this model. Clients ask again for it."""

    model_id: str
    num_bytes: int
    since: float = field(default_factory=monotonic)

    @property
    def is_over(self) -> bool:
        return monotonic() - self.since > _AWAITED_SECONDS


def parts_of(memory_bytes: int, models: Sequence[Loaded[E]]) -> list[int]:
    """What each of the models may take, in all no more than the memory, unless they claim more.

    Those that write, and are in use or were lately, divide what the others leave, which have no use for more than they
    claim.
    """
    writing = [loaded for loaded in models if loaded.entry.kind not in ENCODERS]
    used_last = max(writing, key=lambda loaded: loaded.last_used, default=None)
    warm_since = monotonic() - _WARM_SECONDS
    dividing = {
        loaded: loaded.claimed_bytes
        for loaded in writing
        if loaded.leases or loaded.last_used > warm_since or loaded is used_last
    }
    others = {loaded: loaded.claimed_bytes for loaded in models if loaded not in dividing}
    claims = [(loaded.entry, claimed) for loaded, claimed in dividing.items()]
    parts = dict(zip(dividing, divide(memory_bytes - sum(others.values()), claims), strict=True)) | others
    return [parts[loaded] for loaded in models]


def divide(memory_bytes: int, claims: Sequence[tuple[ModelEntry, int]]) -> list[int]:
    """What each of the models may take, in all no more than the memory, unless they claim more.

    Each has what it claims, or a sequence as long as all of them can have at once, up to its window, where that is
    more; and an equal part of what is left then.
    """

    def parts(window: int) -> list[int]:
        return [max(claimed, entry.total_bytes(window)) for entry, claimed in claims]

    windows = range(1 + max((entry.context_window for entry, _ in claims), default=0))
    num_within = bisect_right(windows, memory_bytes, key=lambda window: sum(parts(window)))
    found = parts(max(0, num_within - 1))
    spare = max(0, memory_bytes - sum(found)) // max(1, len(found))
    return [part + spare for part in found]
