"""One rank of a group: `python rank_child.py MODEL CACHE SPLIT WHOLE [lose]`.

Rank 0 prints what all and it alone answered. In MODEL `{rank}` stands for the rank; WHOLE is the folder of the whole
model. With `lose`, rank 1 loses half of its blocks on disk before the restart.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from omlx.server.models.lean_mlx_lm import use_lean_mlx_lm

use_lean_mlx_lm()

from omlx.server.cache.disk_tier import DiskLimits  # noqa: E402
from omlx.server.engine.batch import BatchEngine  # noqa: E402
from omlx.server.engine.engine import Engine  # noqa: E402
from omlx.server.engine.loaded_batch import DiskCache, load_batch  # noqa: E402
from omlx.server.engine.messages import Alive, EngineFailed, EngineStalled, Submit  # noqa: E402
from omlx.server.engine.ranks.progress import Progress  # noqa: E402
from omlx.server.engine.ranks.running import RankOptions, load_leader, run_follower  # noqa: E402
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits  # noqa: E402
from omlx.server.models.split import Split  # noqa: E402
from omlx.server.requests import SamplingParams  # noqa: E402

_LENGTHS = (5, 300, 40, 700)
_VOCABULARY = 97


def requests() -> list[Submit]:
    """Greedy ones of unequal lengths, and one at random with a seed."""
    prompts = [[(seed * 31 + at * at * 7 + at) % _VOCABULARY for at in range(n)] for seed, n in enumerate(_LENGTHS)]
    greedy = SamplingParams(temperature=0)
    drawn = SamplingParams(temperature=1.0, top_p=0.9, seed=5)
    return [
        *(Submit(f"greedy {len(prompt)}", prompt, 24, sampling=greedy) for prompt in prompts),
        Submit("drawn", prompts[2], 24, sampling=drawn),
    ]


class _Ticks:
    """A clock by which everything takes as long, so that chunks are the same in every run."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def answers(batch: BatchEngine) -> tuple[dict[str, list[int]], dict[str, int]]:
    """What each request got, and its cached tokens; two more are cut in their prompt and in their answer."""
    engine = Engine(Scheduler(SchedulerLimits()), batch, _Ticks())
    told: dict[str, list[int]] = {}
    cached: dict[str, int] = {}
    for request in requests():
        engine.submit(request)
    for name, length in (("cut early", 600), ("cut late", 9)):
        engine.submit(Submit(name, [length % _VOCABULARY] * length, 400))
    num_steps = 0
    while engine.has_work:
        for update in engine.step().updates:
            assert not update.error, update.error
            told.setdefault(update.request_id, []).extend(update.token_ids)
            cached[update.request_id] = update.num_cached_tokens
        num_steps += 1
        if num_steps == 3:
            engine.cancel("cut early")
        if num_steps == 12:
            engine.cancel("cut late")
    kept = [request.request_id for request in requests()]
    return {name: told[name] for name in kept}, {name: cached[name] for name in kept}


def lose_half(cache: Path) -> None:
    """Remove every second block of rank 1's."""
    for file in sorted((cache / "rank1of2").rglob("*.safetensors"))[::2]:
        file.unlink()


def told(message: EngineFailed | EngineStalled | Alive) -> bool:
    print(message, file=sys.stderr)
    return True


def main(model: Path, cache: Path, split: Split, whole: Path, loses: bool) -> int:
    options = RankOptions(model, split, DiskCache(cache, DiskLimits()), 1 << 26, {})
    if os.environ["MLX_RANK"] != "0":
        status = run_follower(options)
        if loses:
            lose_half(cache)
        return status or run_follower(options)
    leader = load_leader(options, told, Progress())
    cold, warm = answers(leader), answers(leader)
    leader.idle()  # the others sleep, and wake
    again = answers(leader)
    while leader.idle():
        pass
    leader.close()
    progress = Progress()
    leader = load_leader(options, told, progress)
    num_pieces = progress.num_pieces
    restarted = answers(leader)
    drafts = {count.drafter: [count.num_drafts, count.num_accepted] for count in leader.drafts}
    leader.close()
    alone = answers(load_batch(whole, prefix_bytes=1 << 26))
    named = {"alone": alone, "cold": cold, "warm": warm, "again": again, "restarted": restarted}
    pieces = progress.num_pieces - num_pieces
    print(json.dumps({"batching": leader.batching.name, "answers": named, "drafts": drafts, "pieces": pieces}))
    return 0


if __name__ == "__main__":
    folder = Path(sys.argv[1].format(rank=os.environ["MLX_RANK"]))
    sys.exit(main(folder, Path(sys.argv[2]), Split(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:] == ["lose"]))
