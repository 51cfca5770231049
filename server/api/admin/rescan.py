"""The models anew from their folders, after one was downloaded or deleted."""

from __future__ import annotations

import asyncio

from ...models.catalog import ModelKind, discover
from .context import AdminContext


async def rescan(context: AdminContext) -> None:
    entries = await asyncio.to_thread(discover, context.settings.model_dirs)
    context.server.pool.replace_entries([entry for entry in entries if entry.kind is ModelKind.LLM])
