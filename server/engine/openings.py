"""What agents open with, their system prompt and tools, brought back into memory before they ask.

The launcher announces each agent it starts, with the key it will come with. The longest opening that an announced
agent sends is kept on disk as tokens, for those alone who share its namespace; at its next launch it goes through the
engine once more, at the lowest rank, which reads its blocks from disk and computes what is missing. The agent's first
request ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import stat
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from ..cache.blocks import BLOCK_TOKENS
from ..errors import OmlxError
from ..models.pool import ModelPool
from ..private_folder import make_private
from ..prompts.render import Prompt
from ..requests import GenerationRequest
from .engine_stream import EngineStream
from .messages import Submit
from .process import EngineProcess

logger = logging.getLogger(__name__)

_MAX_LAUNCHES = 64
_MAX_KEPT = 500
_MAX_KEPT_BYTES = 64 << 20
"""Of all openings: whoever may ask could announce any number of agents."""


@dataclass(slots=True, eq=False)
class Launch:
    """One announced agent. `caller` is the digest of its key; `num_opening_tokens` are those known from last time,
    of which `num_cached_tokens` were in memory or on disk. `error` says why the model could not be loaded."""

    agent: str
    model: str
    caller: str
    cache_salt: str = ""
    id: str = field(default_factory=lambda: uuid4().hex)
    is_loaded: bool = False
    error: str = ""
    num_requests: int = 0
    num_opening_tokens: int = 0
    num_cached_tokens: int = 0
    longest: int = 0
    task: asyncio.Task[None] | None = None
    stream: EngineStream | None = None

    def stop_warming(self) -> None:
        """What was computed by then stays cached, for the request that follows."""
        if self.stream is not None and self.task is not None:
            self.stream.close()  # at once, so that the engine hears of it before the request
            self.task.cancel()


class Openings:
    """Announced launches, and the openings kept in `folder`; with `None` nothing is kept."""

    def __init__(self, pool: ModelPool[EngineProcess], folder: Path | None) -> None:
        self._pool = pool
        self._folder = folder
        self._launches: dict[str, Launch] = {}
        self._by_caller: dict[str, Launch] = {}

    def announce(self, agent: str, model: str, caller: str, cache_salt: str = "") -> Launch:
        """Load the model and restore the agent's opening in the background. Raises `ModelNotFound`."""
        launch = Launch(agent, self._pool.entry(model).id, caller, cache_salt)
        while len(self._launches) >= _MAX_LAUNCHES:
            self._forget(next(iter(self._launches.values())))
        self._launches[launch.id] = self._by_caller[caller] = launch
        launch.task = asyncio.create_task(self._prepare(launch))
        return launch

    def agent_of(self, caller: str) -> str:
        """The agent that was last announced with this key, "" where none was."""
        launch = self._by_caller.get(caller)
        return launch.agent if launch is not None else ""

    def find(self, launch_id: str) -> Launch | None:
        return self._launches.get(launch_id)

    def asked(self, request: GenerationRequest, model_id: str, prompt: Prompt) -> None:
        """Take note of a request that is about to run."""
        launch = self._by_caller.get(request.caller)
        if launch is None:
            return
        launch.num_requests += 1
        launch.stop_warming()
        length = prompt.boundaries[0] + 1 if prompt.boundaries else 0
        is_longer = max(launch.longest, BLOCK_TOKENS) < length <= len(prompt.token_ids)
        if model_id == launch.model and is_longer:
            launch.longest = length
            self._keep(launch, prompt.token_ids[:length])

    def close(self) -> None:
        for launch in list(self._launches.values()):
            self._forget(launch)

    def _forget(self, launch: Launch) -> None:
        del self._launches[launch.id]
        if self._by_caller.get(launch.caller) is launch:
            del self._by_caller[launch.caller]
        if launch.task is not None:
            launch.task.cancel()

    async def _prepare(self, launch: Launch) -> None:
        try:
            lease = await self._pool.lease(launch.model)
        except OmlxError as error:
            launch.error = str(error)
            return
        launch.is_loaded = True
        try:
            token_ids = await asyncio.to_thread(self._kept, launch)
            if token_ids and not launch.num_requests:
                await self._warm(launch, lease.engine, token_ids)
        except OmlxError as error:
            logger.info("launch %s: the opening of %s was not restored: %s", launch.id, launch.agent, error)
        finally:
            lease.release()

    async def _warm(self, launch: Launch, engine: EngineProcess, token_ids: list[int]) -> None:
        """The last token is the one after the opening: a cached prefix always leaves one to compute."""
        launch.num_opening_tokens = len(token_ids) - 1
        submit = Submit(
            f"launch-{launch.id}",
            token_ids,
            max_tokens=1,
            boundaries=[len(token_ids) - 1],
            cache_salt=launch.cache_salt,
            background=True,
        )
        launch.stream = engine.submit(submit)
        with contextlib.closing(launch.stream) as stream:
            is_done = False
            while not is_done:
                update = await stream.next()
                launch.num_cached_tokens = max(launch.num_cached_tokens, update.num_cached_tokens)
                is_done = update.finish_reason is not None
        logger.info(
            "launch %s: %s opens with %d tokens, of which %d were cached",
            launch.id,
            launch.agent,
            launch.num_opening_tokens,
            launch.num_cached_tokens,
        )

    def _file(self, launch: Launch) -> Path | None:
        name = hashlib.sha256(f"{launch.model}\0{launch.cache_salt}".encode()).hexdigest()[:32]
        return None if self._folder is None else self._folder / launch.agent / name

    def _kept(self, launch: Launch) -> list[int]:
        file = self._file(launch)
        try:
            return [] if file is None else array("I", file.read_bytes()).tolist()
        except (OSError, ValueError):
            return []

    def _keep(self, launch: Launch, token_ids: list[int]) -> None:
        file = self._file(launch)
        if file is None or self._folder is None:
            return
        if self._kept(launch) == token_ids:
            with contextlib.suppress(OSError):
                os.utime(file)  # what is in use is not the oldest
            return
        part = file.with_suffix(f".{os.getpid()}")
        try:
            make_private(file.parent)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
                sink.write(array("I", token_ids).tobytes())
            part.replace(file)
            _make_room(self._folder)
        except OSError as error:
            logger.warning("the opening of %s is not kept: %s", launch.agent, error)


def _make_room(folder: Path) -> None:
    """Remove those that were used longest ago, where there are more than may be kept. Raises `OSError`."""
    found: list[tuple[int, int, Path]] = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime_ns, status.st_size, path))
    num_bytes = 0
    for number, (_, size, path) in enumerate(sorted(found, reverse=True), start=1):
        num_bytes += size
        if number > _MAX_KEPT or num_bytes > _MAX_KEPT_BYTES:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others are in it
                path.parent.rmdir()
