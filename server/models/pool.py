"""Which models are loaded: started when asked for, kept while in use, ended to make room.

The pool knows engines only by the few verbs of `Engine`, so it needs neither sockets nor MLX.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, Protocol, TypeVar

from ..errors import ModelNotFound, OmlxError, Overloaded, ShuttingDown
from .catalog import ModelEntry

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """A loading or loaded model."""

    @property
    def is_alive(self) -> bool: ...

    @property
    def is_loading(self) -> bool: ...

    async def attach(self) -> None: ...

    async def ready(self) -> object: ...

    def fail_requests(self, error: OmlxError) -> None: ...

    async def stop(self) -> None: ...


E = TypeVar("E", bound=Engine)


@dataclass(frozen=True, slots=True)
class Residency:
    """How long a model stays loaded: a pinned one to the end, another until it was idle for `ttl_seconds`."""

    pinned: bool = False
    ttl_seconds: float | None = None


@dataclass(slots=True)
class _Loaded(Generic[E]):
    entry: ModelEntry
    engine: E
    attached: asyncio.Event = field(default_factory=asyncio.Event)
    num_leases: int = 0
    last_used: float = field(default_factory=monotonic)


class Lease(Generic[E]):
    """Keeps a model loaded until `release`, which may be called more than once."""

    def __init__(self, loaded: _Loaded[E]) -> None:
        self._loaded: _Loaded[E] | None = loaded
        self.engine = loaded.engine
        loaded.num_leases += 1

    def release(self) -> None:
        if self._loaded is not None:
            self._loaded.num_leases -= 1
            self._loaded.last_used = monotonic()
            self._loaded = None


class ModelPool(Generic[E]):
    """Leases engines by model id.

    `memory_limit` bounds the weights held at once, in bytes; idle models leave, least recently used first,
    when another one needs the room. `real_name` gives the model that an alias stands for, `residency_of` says
    of a model's id how long it stays; both are asked anew each time.
    """

    def __init__(
        self,
        entries: Sequence[ModelEntry],
        start: Callable[[ModelEntry], E],
        memory_limit: int,
        real_name: Callable[[str], str] = str,
        residency_of: Callable[[str], Residency] = lambda _: Residency(),
    ) -> None:
        self._entries = {entry.id: entry for entry in entries}
        self._start = start
        self._memory_limit = memory_limit
        self._real_name = real_name
        self._residency_of = residency_of
        self._loaded: dict[str, _Loaded[E]] = {}
        self._making_room = asyncio.Lock()
        self._closing = False

    @property
    def entries(self) -> tuple[ModelEntry, ...]:
        return tuple(self._entries.values())

    @property
    def engines(self) -> dict[str, E]:
        """The engines that are loaded or loading, by model id."""
        return {model_id: loaded.engine for model_id, loaded in self._loaded.items()}

    def entry(self, model_id: str) -> ModelEntry:
        """The model of this id or alias. Raises `ModelNotFound`, which names the models there are."""
        entry = self._entries.get(model_id) or self._entries.get(self._real_name(model_id))
        if entry is None:
            raise ModelNotFound(model_id, tuple(self._entries))
        return entry

    def preload(self, model_id: str) -> None:
        """Spawn a model's engine now; the first lease, or `attach`, listens to it."""
        entry = self.entry(model_id)
        self._loaded[entry.id] = _Loaded(entry, self._start(entry))

    async def attach(self) -> None:
        """Listen to the engines that `preload` spawned."""
        for model_id in list(self._loaded):
            await self._load(self.entry(model_id))

    async def lease(self, model_id: str) -> Lease[E]:
        """The model's engine, loaded; it stays loaded until the lease is released.

        Raises `ModelNotFound`, `EngineUnavailable` when it cannot be loaded, `Overloaded` when every loaded
        model is in use and there is no room for another.
        """
        lease = Lease(await self._load(self.entry(model_id)))
        try:
            await lease.engine.ready()
        except BaseException:
            lease.release()
            raise
        return lease

    async def _load(self, entry: ModelEntry) -> _Loaded[E]:
        async with self._making_room:
            if self._closing:
                raise ShuttingDown("the server is shutting down; try again when it is back")
            loaded = self._loaded.get(entry.id)
            if loaded is not None and loaded.attached.is_set() and not loaded.engine.is_alive:
                del self._loaded[entry.id]
                await loaded.engine.stop()
                loaded = None
            if loaded is None:
                await self._make_room(entry)
                loaded = self._loaded[entry.id] = _Loaded(entry, self._start(entry))
            if not loaded.attached.is_set():
                await loaded.engine.attach()
                loaded.attached.set()
            return loaded

    async def _make_room(self, entry: ModelEntry) -> None:
        while self._loaded and self._weights() + entry.size_bytes > self._memory_limit:
            idle = [loaded for loaded in self._loaded.values() if self._may_leave(loaded)]
            if not idle:
                kept = ", ".join(self._loaded)
                raise Overloaded(f"no memory for {entry.id} while {kept} answer requests or are pinned", 5)
            oldest = min(idle, key=lambda loaded: loaded.last_used)
            logger.info("Unloading %s to make room for %s", oldest.entry.id, entry.id)
            del self._loaded[oldest.entry.id]
            await oldest.engine.stop()

    async def unload_idle(self) -> None:
        """End the engines that have been idle for as long as they may."""
        async with self._making_room:
            for loaded in list(self._loaded.values()):
                if loaded.engine.is_loading:
                    loaded.last_used = monotonic()
                ttl = self._residency_of(loaded.entry.id).ttl_seconds
                if ttl is not None and self._may_leave(loaded) and monotonic() - loaded.last_used >= ttl:
                    logger.info("Unloading %s, idle for %.0f seconds", loaded.entry.id, ttl)
                    del self._loaded[loaded.entry.id]
                    await loaded.engine.stop()

    def _may_leave(self, loaded: _Loaded[E]) -> bool:
        return loaded.num_leases == 0 and not self._residency_of(loaded.entry.id).pinned

    def _weights(self) -> int:
        return sum(loaded.entry.size_bytes for loaded in self._loaded.values())

    def fail_requests(self, error: OmlxError) -> None:
        """Refuse new leases and end every open request with `error`."""
        self._closing = True
        for loaded in self._loaded.values():
            loaded.engine.fail_requests(error)

    async def close(self) -> None:
        """End every engine."""
        self._closing = True
        async with self._making_room:
            await asyncio.gather(*(loaded.engine.stop() for loaded in self._loaded.values()))
            self._loaded.clear()
