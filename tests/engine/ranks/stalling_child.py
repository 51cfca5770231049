"""An engine process that gets stuck: `python -m tests.engine.ranks.stalling_child WHERE OPTION...`.

WHERE is "step", for its 60th decode step, "between", for what comes before it, or "nowhere"; the options are an
engine's. It has little patience with a server that says nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from omlx.server.engine.__main__ import main
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.ranks import progress
from omlx.server.engine.scheduler import Scheduler

_STALLS_AT = 60


def _stalling(call: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(_STALLS_AT + 1))

    def stalling(*arguments: Any) -> Any:
        if next(calls, 0) == _STALLS_AT:
            time.sleep(60)
        return call(*arguments)

    return stalling


if __name__ == "__main__":
    where, *options = sys.argv[1:]
    setattr(progress, "_SERVER_SECONDS", 3.0)  # noqa: B010  (the checker knows what stands there)
    if where == "step":
        setattr(MlxBatch, "decode", _stalling(MlxBatch.decode))  # noqa: B010
    elif where == "between":
        setattr(Scheduler, "schedule", _stalling(Scheduler.schedule))  # noqa: B010
    sys.exit(main(options))
