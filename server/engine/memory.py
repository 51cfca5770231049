"""How much memory the engine may use for what. Sizes in bytes, arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1 << 20
_CACHE_SHARE = 0.25
"""The prefix cache's share of what the weights leave of the machine's memory."""
_BUFFER_SHARE = 0.05
_MAX_BUFFER = 2048 * _MIB


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """`prefix_cache` bounds the cached prefixes; `buffers`, the freed buffers MLX may hold on to."""

    prefix_cache: int
    buffers: int


def machine_memory(page_bytes: int, num_pages: int, container_limit: str) -> int:
    """What this process may use at most: the machine's memory, or less in a container.

    `container_limit` is the text of cgroup's memory.max: a number, or "max"; anything else counts as none.
    """
    total = page_bytes * num_pages
    limit = container_limit.strip()
    return min(total, int(limit)) if limit.isdigit() else total


def plan(total: int, weights: int) -> MemoryBudget:
    """The budget of one engine on a machine with `total` bytes of memory."""
    free = max(0, total - weights)
    return MemoryBudget(int(free * _CACHE_SHARE), max(64 * _MIB, min(_MAX_BUFFER, int(total * _BUFFER_SHARE))))
