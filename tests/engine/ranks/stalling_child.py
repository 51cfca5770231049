"""An engine process that gets stuck: `python -m tests.engine.ranks.stalling_child WHERE OPTION...`.

WHERE is "joined", for what follows MLX's own joining, "load", for the reading of its weights, "first", for the first
piece of a prompt that it serves, "busy", for what comes before that, where it keeps a core busy and goes on later,
"step", for its 60th decode step, "between", for what comes before one, or "nowhere"; the options are an engine's. It
has little patience with a server that says nothing, ASSEMBLY_SECONDS with ranks and LOAD_SECONDS with weights.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from omlx.server.engine import loaded_batch
from omlx.server.engine.__main__ import main
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.ranks import progress, running
from omlx.server.engine.scheduler import Scheduler

_STALLS_AT = 60
_COMPILING_SECONDS = 8
_SECONDS = 45
"""Less than a step may take of which nothing is known."""


def _stalling(call: Callable[..., Any], at: int = _STALLS_AT) -> Callable[..., Any]:
    calls = iter(range(at + 1))

    def stalling(*arguments: Any) -> Any:
        if next(calls, None) == at:
            time.sleep(_SECONDS)
        return call(*arguments)

    return stalling


def _busy(call: Callable[..., Any]) -> Callable[..., Any]:
    """Takes the time that a kernel's compiling may, once."""
    ends = iter([time.monotonic])

    def busy(*arguments: Any) -> Any:
        if (clock := next(ends, None)) is not None:
            end = clock() + _COMPILING_SECONDS
            while clock() < end:
                pass
        return call(*arguments)

    return busy


def _serving(make_scratch: Callable[..., Any]) -> Callable[..., Any]:
    """Has the batch that serves stall, and not the one that it makes to warm up."""

    def making(batch: MlxBatch, *drafters: Any) -> MlxBatch:
        scratch = make_scratch(batch, *drafters)
        if where == "busy":
            setattr(batch, "open", _busy(batch.open))  # noqa: B010
        else:
            setattr(batch, "prefill", _stalling(batch.prefill, at=0))  # noqa: B010
        return scratch

    return making


if __name__ == "__main__":
    where, *options = sys.argv[1:]
    setattr(progress, "_SERVER_SECONDS", 3.0)  # noqa: B010  (the checker knows what stands there)
    setattr(progress, "_LOAD_SECONDS", float(os.environ.get("LOAD_SECONDS", "300")))  # noqa: B010
    setattr(running, "_ASSEMBLY_SECONDS", float(os.environ.get("ASSEMBLY_SECONDS", "60")))  # noqa: B010
    if where == "joined":
        setattr(running, "link", _stalling(running.link, at=0))  # noqa: B010
    elif where == "load":
        setattr(loaded_batch, "load_model", _stalling(loaded_batch.load_model, at=0))  # noqa: B010
    elif where in ("first", "busy"):
        setattr(MlxBatch, "scratch", _serving(MlxBatch.scratch))  # noqa: B010
    elif where == "step":
        setattr(MlxBatch, "decode", _stalling(MlxBatch.decode))  # noqa: B010
    elif where == "between":
        setattr(Scheduler, "schedule", _stalling(Scheduler.schedule))  # noqa: B010
    sys.exit(main(options))
