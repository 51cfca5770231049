"""The models anew from their folders, after one was downloaded or deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ...engine.process import EngineProcess
from ...models.catalog import SERVED, discover
from ...models.pool import ModelPool


async def rescan(pool: ModelPool[EngineProcess], folders: Sequence[Path]) -> None:
    entries = await asyncio.to_thread(discover, folders)
    pool.replace_entries([entry.within(pool.memory) for entry in entries if entry.kind in SERVED])
