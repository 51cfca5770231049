"""Which models are loaded: started when asked for, kept while in use, ended to make room.

The pool knows engines only by the few verbs of `Engine`, so it needs neither sockets nor MLX.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from ..errors import (
    Conflict,
    EngineUnavailable,
    InsufficientMemory,
    ModelNotFound,
    OmlxError,
    Overloaded,
    ShuttingDown,
)
from ..terminal import size_text
from .catalog import ModelEntry
from .device_memory import DeviceMemory
from .footprint import EXPECTED_ANSWER_TOKENS
from .lease import E, Lease, Loaded
from .memory_division import Awaited, parts_of
from .supervision import Supervision

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Residency:
    """How long a model stays loaded: a pinned one to the end, another until it was idle for `ttl_seconds`."""

    pinned: bool = False
    ttl_seconds: float | None = None


class ModelPool(Generic[E]):
    """Leases engines by model id.

    What the loaded models may take in all stays within the `memory` that is usable; a model alone may need more, but
    not more than there is. Idle models leave, least recently used first, when another one needs the room; what the
    requests of the others claim is left to them. `real_name` gives the model that an alias stands for, `residency_of`
    says of a model's id how long it stays; both are asked anew each time. Where a group of ranks runs the model
    (`is_group`) no other takes its place and it never leaves: the other ranks would have to be told. `with_draft` gives
    a model's entry with what drafts for it counted in.
    """

    def __init__(
        self,
        entries: Sequence[ModelEntry],
        start: Callable[[ModelEntry], E],
        memory: DeviceMemory,
        real_name: Callable[[str], str] = str,
        residency_of: Callable[[str], Residency] = lambda _: Residency(),
        *,
        is_group: bool = False,
        with_draft: Callable[[ModelEntry], ModelEntry] = lambda entry: entry,
    ) -> None:
        self._entries = {entry.id: entry for entry in entries}
        self._start = start
        self.memory = memory
        self._real_name = real_name
        self._residency_of = residency_of
        self._is_group = is_group
        self._with_draft = with_draft
        self._loaded: dict[str, Loaded[E]] = {}
        self._making_room = asyncio.Lock()
        self._awaited: Awaited | None = None
        self._supervision = Supervision()
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing = self._killed = False

    @property
    def entries(self) -> tuple[ModelEntry, ...]:
        return tuple(self._entries.values())

    @property
    def engines(self) -> dict[str, E]:
        """The engines that are loaded or loading, by model id."""
        return {model_id: loaded.engine for model_id, loaded in self._loaded.items()}

    @property
    def failed(self) -> dict[str, str]:
        """Why the engines ended in whose place none is ready yet, and that were not asked to end, by model id."""
        return self._supervision.failed

    @property
    def is_closing(self) -> bool:
        """Whether new leases are refused because the server ends."""
        return self._closing

    def entry(self, model_id: str) -> ModelEntry:
        """The model of this id or alias. Raises `ModelNotFound`, which names the models there are."""
        entry = self._entries.get(model_id) or self._entries.get(self._real_name(model_id))
        if entry is None:
            raise ModelNotFound(model_id, tuple(self._entries))
        return entry

    def knows(self, model_id: str) -> bool:
        """Whether there is a model of this id or alias."""
        return model_id in self._entries or self._real_name(model_id) in self._entries

    def preload(self, model_id: str) -> None:
        """Spawn a model's engine now; the first lease, or `attach`, listens to it.

        Raises `InsufficientMemory`, also where those that were spawned before leave no room for it.
        """
        entry = self._with_draft(self.entry(model_id))
        self.check_size(entry)
        if not self._has_room(entry.needed_bytes, self._loaded.values()):
            raise InsufficientMemory(
                f"{entry.id} needs {size_text(entry.needed_bytes)} and {', '.join(self._loaded)} leave less of the "
                f"{size_text(self.memory.usable)} that models may take; it is loaded when it is asked for"
            )
        self._loaded[entry.id] = Loaded(entry, self._start(entry))

    async def attach(self) -> None:
        """Listen to the engines that `preload` spawned, unless the server was told to stop before it began."""
        with contextlib.suppress(ShuttingDown):
            for model_id in list(self._loaded):
                await self._load(self.entry(model_id))

    async def lease(self, model_id: str, num_prompt_tokens: int = 0) -> Lease[E]:
        """The model's engine, loaded, and with memory for a prompt of so many tokens; both last until the lease is
        released. A prompt that other models leave no memory for, even while they are idle, is the engine's to refuse.

        Raises `ModelNotFound`, `EngineUnavailable` when it cannot be loaded, `Overloaded` when every loaded
        model is in use and there is no room for another or for the prompt, `InsufficientMemory` when there never
        will be.
        """
        loaded = await self._load(self.entry(model_id))
        lease = Lease(loaded)
        try:
            if num_prompt_tokens and not self._is_group:
                await asyncio.shield(self._keep(self._claim(loaded, lease, num_prompt_tokens)))
            await lease.engine.ready()
        except BaseException:
            lease.release()
            raise
        return lease

    async def load(self, model_id: str) -> None:
        """Have the model loaded or loading; a lease waits for the rest. One that was stopped for dying is
        tried again. Raises what `lease` raises."""
        entry = self.entry(model_id)
        self._supervision.forgive(entry.id)
        await self._load(entry)

    async def unload(self, model_id: str) -> bool:
        """End the model's engine; whether there was one. Raises `ModelNotFound`, `Conflict` while it is in use."""
        entry = self.entry(model_id)
        if self._is_group:
            raise Conflict(f"a group of ranks runs {entry.id}, which stays loaded; stop the server to end the group")
        async with self._making_room:
            loaded = self._loaded.get(entry.id)
            if loaded is None:
                return False
            if loaded.num_leases:
                raise Conflict(f"{entry.id} answers {loaded.num_leases} requests; unload it when they have ended")
            logger.info("Unloading %s, as asked", entry.id)
            await self._end(loaded)
            self._share_memory()
            return True

    def replace_entries(self, entries: Sequence[ModelEntry]) -> None:
        """These are the models now; one that is loaded stays until it is unloaded, and one that was stopped and is not
        what it was may be tried again. A group's stays the only one."""
        if self._is_group:
            return
        for entry in entries:
            if entry != self._entries.get(entry.id):
                self._supervision.forgive(entry.id)
        loaded = {model_id: self._entries[model_id] for model_id in self._loaded}
        self._entries = {entry.id: entry for entry in entries}
        self._entries |= {model_id: entry for model_id, entry in loaded.items() if model_id not in self._entries}

    async def _load(self, entry: ModelEntry) -> Loaded[E]:
        """Who asked for it may leave meanwhile: it goes on, for an engine that is left half attached serves nobody."""
        while True:
            loaded = await asyncio.shield(self._keep(self._load_in_turn(entry)))
            if self._loaded.get(entry.id) is loaded:  # it may have made room for another before this went on
                return loaded

    def _keep(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _load_in_turn(self, entry: ModelEntry) -> Loaded[E]:
        async with self._making_room:
            if self._closing:
                raise ShuttingDown()
            loaded = self._loaded.get(entry.id)
            if loaded is not None and loaded.attached.is_set() and not loaded.engine.is_alive:
                await self._bury(loaded)
                loaded = None
            if loaded is None:
                if self._supervision.is_stopped(entry.id):
                    raise EngineUnavailable(self._supervision.failed[entry.id])
                entry = self._with_draft(entry)
                self.check_size(entry)
                await self._make_room(entry, entry.needed_bytes)
                loaded = self._loaded[entry.id] = Loaded(entry, self._start(entry))
                self._share_memory()  # at once: what the others claim may grow while this one is attached
            if not loaded.attached.is_set():
                await loaded.engine.attach()
                loaded.attached.set()
                self._share_memory()
                self._keep(self._watch(loaded))
            return loaded

    async def _watch(self, loaded: Loaded[E]) -> None:
        """Wait for the engine's end; where nobody asked for it, note why, and start a new one if that may help."""
        with contextlib.suppress(OmlxError):
            await loaded.engine.ready()
            self._supervision.ready(loaded.entry.id)
        await loaded.engine.ended()
        async with self._making_room:
            if self._loaded.get(loaded.entry.id) is not loaded or self._killed:
                return
            try_again = await self._bury(loaded)
        if try_again:
            try:
                await self._load(self.entry(loaded.entry.id))
            except OmlxError as error:
                logger.error("The engine of %s was not started again: %s", loaded.entry.id, error)

    async def _bury(self, loaded: Loaded[E]) -> bool:
        """Take note of an engine that died; whether to start another by itself."""
        engine, model_id = loaded.engine, loaded.entry.id
        del self._loaded[model_id]
        reason = await engine.ended()
        # In a group it may have been another rank, which its own server starts again, that kept it from being ready.
        may_load = self._is_group and engine.failure_may_pass
        try_again = self._supervision.died(model_id, reason, engine.ready_seconds, may_load=may_load)
        if self._closing:
            try_again = False
            logger.error("The engine of %s (process %d) died: %s", model_id, engine.pid, reason)
        else:
            outlook = self._supervision.outlook(model_id, try_again=try_again)
            why = "" if reason in outlook else f": {reason}"
            logger.error("The engine of %s (process %d) died%s. %s", model_id, engine.pid, why, outlook)
        await engine.stop()
        self._share_memory()
        return try_again

    def check_silence(self, limit_seconds: float) -> None:
        """Kill the engines that said nothing for so long, or got no further with loading, at this check and at the last
        one; others then start."""
        for loaded in self._loaded.values():
            was_suspect, silence = loaded.is_suspect, loaded.engine.silent_seconds
            loaded.is_suspect = silence > limit_seconds
            if loaded.is_suspect and was_suspect:
                fact = "got no further with loading" if loaded.engine.is_loading else "said nothing"
                loaded.engine.kill(f"the engine {fact} for {silence:.0f} seconds and was killed")
            elif loaded.is_suspect:
                logger.warning("The engine of %s says nothing for %.0f seconds", loaded.entry.id, silence)
                loaded.engine.dump()

    def check_size(self, entry: ModelEntry) -> None:
        """Raises `InsufficientMemory` for a model that does not fit even alone."""
        if entry.needed_bytes > self.memory.total:
            raise InsufficientMemory(
                f"{entry.id} needs {size_text(entry.needed_bytes)}, {size_text(entry.size_bytes)} of them for its "
                f"weights, and there are {size_text(self.memory.total)}; choose a smaller model, or one quantized "
                "to fewer bits"
            )

    async def _make_room(self, entry: ModelEntry, num_bytes: int) -> None:
        """Have the other models leave so much to this one, idle ones by being unloaded. Raises `Overloaded`; then the
        others are given no more, for a while, than would leave it."""
        others = [loaded for loaded in self._loaded.values() if loaded.entry.id != entry.id]
        while not self._has_room(num_bytes, others):
            idle = [loaded for loaded in others if self._may_leave(loaded)]
            kept = [loaded for loaded in others if loaded not in idle]
            if not self._has_room(num_bytes, kept):  # none leaves in vain
                self._awaited = Awaited(entry.id, num_bytes)
                self._share_memory()
                names = ", ".join(loaded.entry.id for loaded in kept)
                raise Overloaded(f"no memory for {entry.id} while {names} answer requests or are pinned", 5)
            oldest = min(idle, key=lambda loaded: loaded.last_used)
            logger.info("Unloading %s to make room for %s", oldest.entry.id, entry.id)
            others.remove(oldest)
            await self._end(oldest)
        if self._awaited is not None and self._awaited.model_id == entry.id:
            self._awaited = None

    async def _claim(self, loaded: Loaded[E], lease: Lease[E], num_prompt_tokens: int) -> None:
        """Have the model's part hold a prompt of so many tokens, and the answer that is expected, where that fits, too.
        Where other models never leave as much the part becomes as large as it can."""
        least, wanted = (
            loaded.entry.total_bytes(num_prompt_tokens + num_tokens) for num_tokens in (1, EXPECTED_ANSWER_TOKENS)
        )
        if wanted <= loaded.limit_bytes:
            lease.claimed_bytes = wanted
            return
        async with self._making_room:
            others = [other for other in self._loaded.values() if other is not loaded]
            try:
                await self._make_room(loaded.entry, least)
            except Overloaded:
                if any(other.num_leases for other in others):
                    raise
            claimed = sum(other.claimed_bytes for other in self._loaded.values() if other is not loaded)
            lease.claimed_bytes = min(wanted, loaded.entry.usable_bytes(self.memory) - claimed)
            self._share_memory()

    async def _end(self, loaded: Loaded[E]) -> None:
        """End the engine, as somebody asked for or has need of."""
        del self._loaded[loaded.entry.id]
        self._supervision.ended(loaded.entry.id, loaded.engine.ready_seconds)
        await loaded.engine.stop()

    async def unload_idle(self) -> None:
        """End the engines that have been idle for as long as they may, and divide the memory by what is claimed now."""
        async with self._making_room:
            for loaded in list(self._loaded.values()):
                if loaded.engine.is_loading:
                    loaded.last_used = monotonic()
                ttl = self._residency_of(loaded.entry.id).ttl_seconds
                if ttl is not None and self._may_leave(loaded) and monotonic() - loaded.last_used >= ttl:
                    logger.info("Unloading %s, idle for %.0f seconds", loaded.entry.id, ttl)
                    await self._end(loaded)
            if self._awaited is not None and self._awaited.is_over:
                self._awaited = None
            self._share_memory()

    def _has_room(self, num_bytes: int, beside: Collection[Loaded[E]]) -> bool:
        """Whether so much fits beside these models and their requests; alone it always may be tried."""
        return not beside or sum(loaded.claimed_bytes for loaded in beside) + num_bytes <= self.memory.usable

    def _share_memory(self) -> None:
        """Tell each engine its part, where that is another one. A group's ranks have each their own memory, and know
        it."""
        models = list(self._loaded.values())
        if self._is_group or not models:
            return
        memory_bytes = max(loaded.entry.usable_bytes(self.memory) for loaded in models)
        if self._awaited is not None:
            awaiting = self._loaded.get(self._awaited.model_id)
            memory_bytes -= self._awaited.num_bytes - (awaiting.claimed_bytes if awaiting else 0)
        for loaded, part in zip(models, parts_of(memory_bytes, models), strict=True):
            if loaded.attached.is_set() and part != loaded.limit_bytes:
                loaded.limit_bytes = part
                loaded.engine.limit_memory(part)

    def _may_leave(self, loaded: Loaded[E]) -> bool:
        return not (self._is_group or loaded.num_leases or self._residency_of(loaded.entry.id).pinned)

    def drain(self) -> None:
        """Refuse new leases from now on; those that are held go on."""
        self._closing = True

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
        if self._tasks:
            await asyncio.wait(self._tasks)

    def kill(self) -> None:
        """End every engine at once, without an event loop."""
        self._killed = True
        for loaded in self._loaded.values():
            loaded.engine.kill("the server was told twice to stop")
