"""A rank of a group that is not the first: it keeps an engine running that does as rank 0 says."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from .engine.process import EngineCommand, ending
from .engine.ranks import DISAGREES_STATUS, MLX_RANK, RANK_VARIABLES
from .errors import SettingsError
from .models.catalog import ENCODERS, ModelEntry, read_entry
from .models.hub import Hub, pull_headers
from .models.hub_files import checked_repo
from .models.supervision import Supervision
from .stop_signals import held_back

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0
_LAST_WORD_SECONDS = 3.0
"""What rank 0 has to tell its clients which rank is lost, before mpirun ends it too."""
_ENGINE = "this rank"
_SIZE_VARIABLES = ("MLX_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def rank_of(environment: Mapping[str, str]) -> int:
    """This process's rank. Raises `SettingsError` where nobody has given it one."""
    for name in RANK_VARIABLES:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    raise SettingsError(
        "--distributed needs a group to be part of; start it on all machines at once, for example with "
        "`mlx.launch --hostfile hosts.json -- omlx serve --distributed`"
    )


def num_ranks(environment: Mapping[str, str]) -> int:
    """How many ranks the group has, by what its launcher says; 1 where it says nothing."""
    for name in ("MLX_HOSTFILE", "MLX_IBV_DEVICES"):  # files with an entry for each
        if environment.get(name):
            return max(1, len(json.loads(Path(environment[name]).read_bytes() or b"[]")))
    named = (environment.get(name, "") for name in _SIZE_VARIABLES)
    return next((int(text) for text in named if text.isdigit()), 1)


def the_model(entries: Sequence[ModelEntry], name: str | None, parts: Path, hub: Callable[[], Hub]) -> ModelEntry:
    """The one model a group serves: the named one, or the only one there is.

    One that is not here, named as the hub names it, gets a folder below `parts`, for which this rank's engine fetches
    the weights that it needs. Raises `SettingsError`, and `ModelError` as `pull_headers` does.
    """
    found = [entry for entry in entries if name in (None, entry.id)]
    if not found and name is not None and "/" in name:
        target = parts / checked_repo(name)
        pull_headers(name, target, hub())
        return read_entry(target, name)
    if len(found) != 1:
        listed = ", ".join(entry.id for entry in entries) or "none"
        raise SettingsError(f"a group serves one model; choose it with --model. Models here: {listed}")
    if found[0].kind in ENCODERS:
        raise SettingsError(f"{found[0].id} writes no text, and such models are not divided; serve it on one machine")
    return found[0]


def can_rejoin(environment: Mapping[str, str]) -> bool:
    """Whether a new engine can take a dead one's place in the group. MPI lets a rank come in once."""
    return MLX_RANK in environment


def follow(command: EngineCommand, *, can_rejoin: bool, clock: Callable[[], float] = time.monotonic) -> int:
    """Run the engine, and another where one dies, until rank 0 ends the group or this process is told to stop.

    The exit status: 1 where engines keep dying, or none can rejoin, `DISAGREES_STATUS` where this rank has not what
    rank 0 has.
    """
    supervision = Supervision("start the group again")
    while True:
        started = clock()
        status = _run(command)
        if status in (0, DISAGREES_STATUS):
            return status
        if not can_rejoin:
            logger.error("The engine %s. MPI lets no other into the group; start it again", ending(status))
            time.sleep(_LAST_WORD_SECONDS)
            return 1
        supervision.died(_ENGINE, f"the engine {ending(status)}", clock() - started)
        if supervision.is_stopped(_ENGINE):
            logger.error("%s", supervision.failed[_ENGINE])
            return 1
        logger.warning("The engine %s. %s", ending(status), supervision.outlook(_ENGINE, try_again=True))
        time.sleep(_PAUSE_SECONDS)


def _run(command: EngineCommand) -> int:
    """Run one engine to its end; its exit status, 0 where this process was told to stop."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        process.kill()
        raise SystemExit(0)

    with held_back():
        process = subprocess.Popen(command.argv, env=dict(command.environment), stdin=subprocess.DEVNULL)
        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(process)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Its exit status. One that a signal has stopped is killed: rank 0 has given it up, and waits for another."""
    while True:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode
        logger.warning("The engine was stopped by signal %d; killing it", os.WSTOPSIG(status))
        process.kill()
