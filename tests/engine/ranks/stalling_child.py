"""One rank of a group: `python stalling_child.py MODEL STALLING`, where rank STALLING sleeps in its 60th decode step.

Rank 0 prints why it ends.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from omlx.server.models.lean_mlx_lm import use_lean_mlx_lm

use_lean_mlx_lm()

from omlx.server.engine.engine import Engine  # noqa: E402
from omlx.server.engine.messages import Alive, EngineFailed, Submit  # noqa: E402
from omlx.server.engine.mlx_batch import MlxBatch  # noqa: E402
from omlx.server.engine.ranks.running import RankOptions, load_leader, run_follower  # noqa: E402
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits  # noqa: E402
from omlx.server.models.split import Split  # noqa: E402
from omlx.server.requests import SamplingParams  # noqa: E402

_STALLS_AT = 60


def stall() -> None:
    decode, steps = MlxBatch.decode, iter(range(_STALLS_AT + 1))

    def stalling(batch: MlxBatch, drafts: Any = None) -> dict[str, list[int]]:
        if next(steps, 0) == _STALLS_AT:
            time.sleep(60)
        return decode(batch, drafts)

    setattr(MlxBatch, "decode", stalling)  # noqa: B010  (the checker knows what stands there)


def main(model: Path, stalling: str) -> int:
    if os.environ["MLX_RANK"] == stalling:
        stall()
    options = RankOptions(model, Split.TENSOR, None, 0, {})
    if os.environ["MLX_RANK"] != "0":
        return run_follower(options)

    def told(message: Alive | EngineFailed) -> None:
        if isinstance(message, EngineFailed):
            print(message.message, flush=True)

    engine = Engine(Scheduler(SchedulerLimits()), load_leader(options, told), time.perf_counter)
    engine.submit(Submit("a", [1, 2, 3], 400, sampling=SamplingParams(temperature=0)))
    while engine.has_work:
        engine.step()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
