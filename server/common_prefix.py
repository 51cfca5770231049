"""How far two sequences agree."""

from __future__ import annotations

from collections.abc import Sequence


def common_prefix(left: Sequence[object], right: Sequence[object]) -> int:
    """The number of leading elements that both have: tokens of lists, characters of strings. It compares slices, which
    C does, in time linear in their lengths."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
