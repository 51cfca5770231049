"""`python -m omlx.server.engine.ranks.checking`, one rank of a group: rank 0 prints what `omlx cluster check` tells."""

from __future__ import annotations

import json
import platform
import socket
import sys
import time
from importlib.metadata import version
from statistics import median

import mlx.core as mx
import msgspec

from ...errors import OmlxError
from . import CHECK_MARK
from .group import MlxRanks
from .joining import join

_SMALL_BYTES, _LARGE_BYTES = 1 << 10, 32 << 20
_SMALL_ROUNDS, _LARGE_ROUNDS = 50, 3


def main() -> int:
    try:
        ranks = join()
    except OmlxError as error:
        print(error, file=sys.stderr)
        return 1
    facts = {"host": socket.gethostname(), "python": platform.python_version()}
    facts |= {package: version(package) for package in ("omlx", "mlx", "mlx-lm")}
    everyone = [msgspec.msgpack.decode(raw) for raw in ranks.gather_bytes(msgspec.msgpack.encode(facts))]
    small = _seconds(ranks, _SMALL_BYTES, _SMALL_ROUNDS)
    large = _seconds(ranks, _LARGE_BYTES, _LARGE_ROUNDS)
    if ranks.rank == 0:
        told = {"ranks": everyone, "latency_seconds": small, "bytes_per_second": _LARGE_BYTES / large}
        print(CHECK_MARK + json.dumps(told), flush=True)
    return 0


def _seconds(ranks: MlxRanks, num_bytes: int, rounds: int) -> float:
    """How long a sum over all ranks takes, in the median."""
    values = mx.ones(num_bytes // 4)
    mx.eval(values)
    taken: list[float] = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        mx.eval(mx.distributed.all_sum(values, group=ranks.group))
        taken.append(time.perf_counter() - started)
    return median(taken[1:])  # the first one sets things up


if __name__ == "__main__":
    sys.exit(main())
