"""Memory that the C library keeps after it was freed: hundreds of MB once long prompts were computed on the CPU."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def give_back_memory() -> None:
    """Let the system have it. Takes some milliseconds; only glibc has a way, and elsewhere nothing is done."""
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda _: None
