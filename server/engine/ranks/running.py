"""An engine process that is one rank of a group: rank 0 serves the API process, the others follow it."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from ...cache.fingerprint import model_fingerprint
from ...errors import EngineFailure, EngineUnavailable, OmlxError
from ...models.hub import Hub
from ...models.part_fetching import fetch_part
from ...models.part_folder import whole_name
from ...models.split import Split
from ..loaded_batch import DiskCache, load_batch
from ..messages import Alive, EngineFailed, EngineStalled, RankMemory
from ..mlx_batch import MlxBatch
from . import DISAGREES_STATUS
from .control import BEAT_SECONDS, Members, Membership
from .follower import follow
from .group import MlxRanks
from .joining import agree, die, join, link
from .leader import LeaderBatch
from .progress import Progress
from .warming import Guesses, warm_up

logger = logging.getLogger(__name__)

_ASSEMBLY_SECONDS = 60.0
_LOSS_GRACE_SECONDS = 1.0
"""What the thread that computes has, to fail by itself and be cleaned up after, before the process is ended, where it
is not the one that is stuck."""
_LAST_WORD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RankOptions:
    """What a rank is started with. `settings`, by the names that users know, must be the same on all
    of them."""

    model: Path
    split: Split
    disk_cache: DiskCache | None
    prefix_bytes: int | None
    settings: Mapping[str, str]


def load_leader(
    options: RankOptions, report: Callable[[EngineFailed | EngineStalled | Alive], bool], progress: Progress
) -> LeaderBatch:
    """Rank 0's batch, once all ranks have loaded their parts and warmed up together.

    `report` says, from another thread, that the process lives, who holds it up, and why it is about to end; whether
    somebody listens.
    `progress` is told by another thread when the server is heard. Raises `OmlxError`.
    """

    def give_up(reason: str) -> None:
        if progress.server_silent_seconds:
            _in(_LAST_WORD_SECONDS, lambda: die(1))  # it may take no word, either
            os.kill(os.getppid(), signal.SIGCONT)  # one that a signal has stopped goes on, with another engine
        report(EngineFailed(reason, may_pass=True))
        die(1)

    def warn(reason: str) -> None:
        report(EngineStalled(reason))

    def beat() -> None:
        while report(Alive()):
            time.sleep(BEAT_SECONDS)

    late = f"not all ranks have come within {_ASSEMBLY_SECONDS:.0f} seconds; start `omlx serve --distributed` on each"
    with _assembling(lambda: give_up(late)):
        ranks = join()
    threading.Thread(target=beat, name="rank-beat", daemon=True).start()
    batch, members = _load(options, ranks, progress, lambda reason: _later(give_up, reason, progress), warn)
    assert isinstance(members, Members)
    broadcast = progress.while_waiting(ranks.broadcast)
    with progress.warms_up():
        scratch = LeaderBatch(batch.scratch(Guesses()), broadcast, members, progress)
        warm_up(scratch)
        scratch.end()
    return LeaderBatch(batch, broadcast, members, progress)


def run_follower(options: RankOptions) -> int:
    """Compute with rank 0 until it closes; the exit status, `DISAGREES_STATUS` where the ranks are not alike."""

    progress = Progress()

    def give_up(reason: str) -> None:
        logger.error("%s", reason)
        die(1)

    try:
        ranks = join()
        batch, membership = _load(options, ranks, progress, lambda reason: _later(give_up, reason, progress))
        assert isinstance(membership, Membership)
        for followed in (batch.scratch(), batch):  # rank 0 warms up first
            follow(followed, progress.while_waiting(ranks.broadcast), progress.while_waiting(membership.wait_for_wake))
    except EngineUnavailable as error:
        logger.error("%s", error)
        return DISAGREES_STATUS
    except (OmlxError, RuntimeError) as error:  # a RuntimeError is what MLX raises when a collective fails
        logger.error("%s", error)
        return 1
    membership.close()
    return 0


def _load(
    options: RankOptions,
    ranks: MlxRanks,
    progress: Progress,
    on_loss: Callable[[str], None],
    on_stall: Callable[[str], None] = lambda _: None,
) -> tuple[MlxBatch, Members | Membership]:
    batch: MlxBatch | None = None

    def memory() -> RankMemory:
        if batch is None:
            return RankMemory()
        use = batch.memory()
        return RankMemory(use.cache_bytes, use.memory_bytes)

    some_rank = " or ".join(f"rank {rank}" for rank in range(ranks.size))
    stuck = f"{some_rank} got no further for {_ASSEMBLY_SECONDS:.0f} seconds once all had come"
    with _assembling(lambda: on_loss(stuck)):
        linked = link(ranks, os.environ, memory, progress, on_loss, on_stall)
    try:
        batch = _load_together(options, ranks, progress)
    except RuntimeError as error:  # what MLX raises when a collective fails
        if isinstance(linked, Members) and (reason := linked.lost()):
            raise EngineFailure(reason) from error
        raise
    return batch, linked


def _load_together(options: RankOptions, ranks: MlxRanks, progress: Progress) -> MlxBatch:
    with progress.loads():
        agree(ranks, {**_facts(options), **options.settings})
    fetch_part(options.model, ranks.group, options.split, lambda: Hub.of(os.environ))
    agree(ranks, {})  # all have their part, and read it at the same time: a download may take an hour, and no step does
    logger.info("rank %d of %d loads its part of %s", ranks.rank, ranks.size, options.model.name)
    with progress.loads():
        batch = load_batch(
            options.model, options.disk_cache, options.prefix_bytes, ranks, options.split, go_on=progress.go_on
        )
        # all have loaded; other ways of decoding would call other collectives
        agree(ranks, {"the way of decoding": batch.batching.name})
    return batch


def _facts(options: RankOptions) -> dict[str, str]:
    return {
        **{package: version(package) for package in ("omlx", "mlx", "mlx-lm", "llguidance")},
        "the model of hash": model_fingerprint(options.model, whole=whole_name(options.model)),
        "the tokenizer of hash": _hash(options.model / "tokenizer.json"),
        "the split": options.split,
        "the device": "CUDA" if mx.cuda.is_available() else mx.default_device().type.name,
    }


def _hash(file: Path) -> str:
    """Of its bytes; "none" where there is no such file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.exists() else "none"


@contextmanager
def _assembling(give_up: Callable[[], None]) -> Iterator[None]:
    """Within, ranks come together, and no link tells yet who is alive: it has an end after a minute."""
    timer = _in(_ASSEMBLY_SECONDS, give_up)
    try:
        yield
    finally:
        timer.cancel()


def _later(end: Callable[[str], None], reason: str, progress: Progress) -> None:
    is_stuck = progress.overdue_seconds() or progress.stands_still or progress.server_silent_seconds
    _in(0 if is_stuck else _LOSS_GRACE_SECONDS, lambda: end(reason))


def _in(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer
