"""What the C library does with memory that was freed. Only glibc can be told; elsewhere these do nothing."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def give_back_memory() -> None:
    """Let the system have it: hundreds of MB once long prompts were computed on the CPU. Takes some milliseconds."""
    _function("malloc_trim")(0)


def keep_one_arena() -> None:
    """Have all threads allocate from one arena. Each would fill its own, and what it once had at most would stay with
    it: a server's memory crept on for an hour, and an engine took half a GiB of address space for nothing."""
    _function("mallopt")(_M_ARENA_MAX, 1)


@functools.cache
def _function(name: str) -> Callable[..., object]:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return lambda *_: None
