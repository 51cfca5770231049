"""The engine process: `python -m omlx.server.engine --model DIR --fd N`.

N is a connected stream socket the parent left open for it; see `worker` for what passes over it.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.catalog import ENCODERS, ModelKind
from .batch import BatchEngine
from .scheduler import SchedulerLimits
from .worker import run, serve, set_signals

if TYPE_CHECKING:
    from .encoding import EncodingEngine


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m omlx.server.engine", description="Serve one model over a socket.")
    parser.add_argument("--model", type=Path, required=True, help="the model's folder")
    parser.add_argument("--kind", type=ModelKind, default=ModelKind.LLM, help="what the model is for")
    parser.add_argument("--fd", type=int, required=True, help="the number of the inherited socket")
    parser.add_argument("--cache-dir", type=Path, help="keep prompt prefixes here across restarts")
    parser.add_argument("--cache-bytes", type=int, help="the most all models' prefixes may take on disk")
    parser.add_argument(
        "--cache-ram-bytes", type=int, help="memory for prompt prefixes, a share of what is free by default"
    )
    parser.add_argument("--max-num-seqs", type=int, default=SchedulerLimits().max_num_seqs, help="sequences at once")
    parser.add_argument(
        "--max-num-waiting", type=int, default=SchedulerLimits().max_num_waiting, help="length of the queue"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="engine: %(message)s")
    set_signals()

    def load() -> BatchEngine:
        # MLX takes a while to import; the socket is read meanwhile.
        from ..models.lean_mlx_lm import use_lean_mlx_lm

        use_lean_mlx_lm()
        from ..cache.disk_tier import DiskLimits
        from .loaded_batch import DiskCache, load_batch

        disk_cache = None
        if options.cache_dir is not None:
            limits = DiskLimits() if options.cache_bytes is None else DiskLimits(max_bytes=options.cache_bytes)
            disk_cache = DiskCache(options.cache_dir, limits)
        return load_batch(options.model, disk_cache, options.cache_ram_bytes)

    def load_encoder() -> EncodingEngine:
        from ..models.lean_mlx_lm import use_lean_mlx_lm

        use_lean_mlx_lm()
        from .encoding import EncodingEngine
        from .loaded_encoder import LoadedEncoder

        return EncodingEngine(LoadedEncoder(options.model, options.kind), time.perf_counter)

    limits = SchedulerLimits(max_num_seqs=options.max_num_seqs, max_num_waiting=options.max_num_waiting)
    with socket.socket(fileno=options.fd) as connection:
        connection.setblocking(True)
        if options.kind in ENCODERS:
            return serve(connection, load_encoder)
        return run(connection, load, limits)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
