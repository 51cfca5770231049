"""The engine process: `python -m omlx.server.engine --model DIR --fd N`.

N is a connected stream socket the parent left open for it; see `worker` for what passes over it. Of several
processes that run one model together, with `--split`, only rank 0 has one.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache.disk_tier import DiskLimits
from ..malloc import keep_one_arena
from ..models.catalog import ENCODERS, ModelKind
from ..models.lean_mlx_lm import use_lean_mlx_lm
from .batch import BatchEngine
from .engine_log import start_engine_log
from .ranks.progress import PIECE_SECONDS, Progress
from .scheduler import SchedulerLimits
from .wire import SharedSocket
from .worker import report, run, serve, set_signals

if TYPE_CHECKING:
    from .encoding import EncodingEngine
    from .loaded_batch import DiskCache
    from .ranks.running import RankOptions


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m omlx.server.engine", description="Serve one model over a socket.")
    parser.add_argument("--model", type=Path, required=True, help="the model's folder")
    parser.add_argument("--kind", type=ModelKind, default=ModelKind.LLM, help="what the model is for")
    parser.add_argument("--fd", type=int, help="the number of the inherited socket; without it, follow rank 0")
    parser.add_argument("--split", help="be one rank of a group, among which the model is divided in this way")
    parser.add_argument("--draft-model", type=Path, help="the folder of a smaller model that drafts")
    parser.add_argument("--cache-dir", type=Path, help="keep prompt prefixes here across restarts")
    limits = DiskLimits()
    parser.add_argument(
        "--cache-bytes", type=int, default=limits.max_bytes, help="the most all models' prefixes may take on disk"
    )
    parser.add_argument(
        "--cache-bytes-per-day", type=int, default=limits.max_bytes_per_day, help="the most written of them in a day"
    )
    parser.add_argument(
        "--cache-ram-bytes", type=int, help="memory for prompt prefixes, a share of what is free by default"
    )
    parser.add_argument("--max-num-seqs", type=int, default=SchedulerLimits().max_num_seqs, help="sequences at once")
    parser.add_argument(
        "--max-num-waiting", type=int, default=SchedulerLimits().max_num_waiting, help="length of the queue"
    )
    options = parser.parse_args(arguments)
    start_engine_log()
    set_signals()
    keep_one_arena()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # writing all of it out, prompts too, would keep clients waiting
    if options.fd is None:
        use_lean_mlx_lm()
        from .ranks.running import run_follower

        return run_follower(_rank_options(options))

    def load_encoder() -> EncodingEngine:
        use_lean_mlx_lm()
        from .encoding import EncodingEngine
        from .loaded_encoder import LoadedEncoder

        return EncodingEngine(LoadedEncoder(options.model, options.kind), time.perf_counter)

    with SharedSocket(fileno=options.fd) as connection:
        connection.setblocking(True)
        progress = Progress()

        def load() -> BatchEngine:
            # MLX takes a while to import; the socket is read meanwhile.
            use_lean_mlx_lm()
            if options.split is None:
                from .loaded_batch import load_batch

                return load_batch(
                    options.model,
                    _disk_cache(options),
                    options.cache_ram_bytes,
                    draft_model=options.draft_model,
                )
            from .ranks.running import load_leader

            return load_leader(_rank_options(options), lambda message: report(connection, message), progress)

        def abandon() -> None:
            os._exit(0)

        if options.kind in ENCODERS:
            return serve(connection, load_encoder, abandon=abandon)
        limits = SchedulerLimits(
            max_num_seqs=options.max_num_seqs,
            max_num_waiting=options.max_num_waiting,
            max_chunk_seconds=inf if options.split is None else PIECE_SECONDS,
        )
        return run(connection, load, limits, hear_server=progress.hear_server, abandon=abandon)


def _disk_cache(options: argparse.Namespace) -> DiskCache | None:
    from .loaded_batch import DiskCache

    if options.cache_dir is None:
        return None
    return DiskCache(options.cache_dir, DiskLimits(options.cache_bytes, options.cache_bytes_per_day))


def _rank_options(options: argparse.Namespace) -> RankOptions:
    from ..models.split import Split
    from .ranks.running import RankOptions

    shared = {
        "cache.ssd_bytes": str(options.cache_bytes),
        "cache.ssd_bytes_per_day": str(options.cache_bytes_per_day),
        "cache.ram_bytes": str(options.cache_ram_bytes),
        "engine.max_num_seqs": str(options.max_num_seqs),
    }
    return RankOptions(options.model, Split(options.split), _disk_cache(options), options.cache_ram_bytes, shared)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
