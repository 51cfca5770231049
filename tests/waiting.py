"""Waits for what another task, thread or process brings about; no test asserts how long it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return when the condition holds; raises `TimeoutError` when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """`until`, where there is no event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
