"""How the loaded models divide the memory that models may take. Bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from .catalog import ModelEntry


def divide(memory_bytes: int, claims: Sequence[tuple[ModelEntry, int]]) -> list[int]:
    """What each of the models may take, in all no more than the memory, unless they claim more.

    Each has what it claims, or a sequence as long as all of them can have at once, up to its window, where that is
    more; and an equal part of what is left then.
    """

    def parts(window: int) -> list[int]:
        return [max(claimed, entry.total_bytes(window)) for entry, claimed in claims]

    windows = range(1 + max(entry.context_window for entry, _ in claims))
    num_within = bisect_right(windows, memory_bytes, key=lambda window: sum(parts(window)))
    found = parts(max(0, num_within - 1))
    spare = max(0, memory_bytes - sum(found)) // len(found)
    return [part + spare for part in found]
