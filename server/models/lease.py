"""A loaded model: its engine by the few verbs that the pool knows it by, and who keeps it loaded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, Protocol, TypeVar

from ..errors import OmlxError
from .catalog import ModelEntry


class Engine(Protocol):
    """A loading or loaded model. Times in seconds."""

    @property
    def pid(self) -> int: ...

    @property
    def is_alive(self) -> bool: ...

    @property
    def is_loading(self) -> bool: ...

    async def attach(self) -> None: ...

    async def ready(self) -> object: ...

    @property
    def ready_seconds(self) -> float:
        """For how long it has been ready, or was when it ended; 0 before."""
        ...

    @property
    def failure_may_pass(self) -> bool:
        """Whether it said that another one may be ready."""
        ...

    @property
    def silent_seconds(self) -> float:
        """How long a ready engine has said nothing; before, for how long it has got no further."""
        ...

    async def ended(self) -> str:
        """Wait until it has ended, and say why."""
        ...

    def dump(self) -> None:
        """Have it write to the log where it stands."""
        ...

    def kill(self, reason: str) -> None:
        """End it at once, for this reason."""
        ...

    @property
    def claimed_bytes(self) -> int:
        """What the model takes with the requests that it has, at the length that is expected of each."""
        ...

    def limit_memory(self, num_bytes: int) -> None:
        """What the model may take in all, its weights included, from now on."""
        ...

    def fail_requests(self, error: OmlxError) -> None: ...

    async def stop(self) -> None: ...


E = TypeVar("E", bound=Engine)


@dataclass(slots=True, eq=False)
class Loaded(Generic[E]):
    """A model in the pool, from its engine's start to its end."""

    entry: ModelEntry
    engine: E
    attached: asyncio.Event = field(default_factory=asyncio.Event)
    is_suspect: bool = False
    limit_bytes: int = 0
    """What the engine was told that it may take."""
    leases: set[Lease[E]] = field(default_factory=set["Lease[E]"])
    last_used: float = field(default_factory=monotonic)

    @property
    def num_leases(self) -> int:
        return len(self.leases)

    @property
    def claimed_bytes(self) -> int:
        """What must be left to the model: what it needs at least, or more for the requests that it has. What the engine
        says of them is up to a second old; what a lease claims holds before the engine has heard of the request."""
        claimed = min(self.engine.claimed_bytes, self.limit_bytes)
        return max(self.entry.needed_bytes, claimed, *(lease.claimed_bytes for lease in self.leases))


class Lease(Generic[E]):
    """Keeps a model loaded until `release`, which may be called more than once, and `claimed_bytes` left to it: what
    the model takes with the request that the lease is for."""

    def __init__(self, loaded: Loaded[E]) -> None:
        self._loaded = loaded
        self.engine = loaded.engine
        self.claimed_bytes = 0
        loaded.leases.add(self)

    def release(self) -> None:
        if self in self._loaded.leases:
            self._loaded.leases.remove(self)
            self._loaded.last_used = monotonic()
