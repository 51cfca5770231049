"""`python -m tests.bench.gpu`: omlx beside mlx_lm.server on one GPU, with random weights of an 8B-class shape.

All serve the same folder, one after the other, to the same client. With `--servers omlx "omlx, 2 ranks"` a group of two
GPUs of this host stands beside one; it comes together over NCCL. Beside the figures stands the floor: what the
bytes that must be moved, or the products that must be computed, take at rates measured in the same call.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import mlx.core as mx

from .gpu_client import Client, Stream, letters
from .gpu_model import build
from .servers import Contender, running, wait_until_saved

_STREAMS = (1, 8, 32, 64)
_PROMPT_TOKENS, _ANSWER_TOKENS = 128, 128
_PREFILLS = (2048, 8192, 32768)
_ARRIVALS = (4096, 8192)
_WARM_TOKENS = 8192
_LATE_TOKENS = 24576
"""Of a prompt that comes from the disk beside streams; with the other it fits into a tenth of a small disk."""
_GROUP = "omlx, 2 ranks"
_RANKS = 2
_KV_BYTES = 2 * 36 * 8 * 128 * 2
"""A token's keys and values in the 8B-class shape."""


@dataclass(slots=True)
class Figures:
    """What was measured of one server, by name, in the order of measuring."""

    of: dict[str, float] = field(default_factory=dict)

    def put(self, name: str, value: float) -> None:
        self.of[name] = value
        print(f"  {name}: {value:.4g}", flush=True)


def contenders(model: Path, home: Path, wanted: list[str]) -> list[Contender]:
    """Each as its own command line starts it, with room for all streams."""
    python = sys.executable
    ours = (python, "-P", "-m", "omlx.server", "serve", "--model-dir", str(model.parent), "--port", "{port}")
    ours += ("--max-num-seqs", str(max(_STREAMS)))
    theirs = (python, "-P", "-m", "mlx_lm.server", "--model", str(model), "--port", "{port}", "--log-level", "ERROR")
    theirs += ("--decode-concurrency", str(max(_STREAMS)))
    # Of mlx.launch as a program, whatever folder its script lies in.
    launch = (python, "-P", "-c", "from mlx._distributed_utils.launch import main; main()")
    launch += ("--backend", "nccl", "--hosts", "127.0.0.1", "--repeat-hosts", str(_RANKS), "--")
    found = [
        Contender("omlx", "", ours, model.name, os.environ, home),
        Contender(_GROUP, "", (*launch, *ours, "--distributed"), model.name, os.environ, home.with_name("group")),
        Contender("mlx_lm.server", "", theirs, str(model), {**os.environ, "HF_HUB_OFFLINE": "1"}),
    ]
    return [contender for contender in found if contender.name in wanted]


def measure(contender: Contender, folder: Path, sizes: Sizes) -> Figures:
    figures = Figures()
    log = folder / f"{contender.name}.log"
    warm, late = letters(sizes.warm, seed=90_000), letters(sizes.late, seed=90_002)
    with serving(contender, log, figures, "start, s") as client:
        for count in sizes.streams:
            decode(client, figures, count)
        sampled(client, figures, 32 if 32 in sizes.streams else sizes.streams[0])
        for count in sizes.prefills:
            prefill(client, figures, count)
        for count in sizes.arrivals:
            arrival(client, figures, str(count), [letters(count, seed=20 * count + 100 + turn) for turn in range(3)])
        if contender.home is not None:
            client.ask([late], 1)
        cold = client.ask([warm], 1)[0]
        figures.put(f"TTFT of {sizes.warm}, cold, s", cold.first_seconds)
        again = [client.ask([warm], 1)[0].first_seconds for _ in range(9)]
        figures.put(f"TTFT of {sizes.warm}, again (RAM), s", median(again[4:]))  # kernels are compiled for the first
        if contender.home is None:  # keeps nothing over a restart
            return figures
        wait_until_saved(contender.home)
    with serving(contender, log, figures, "second start, s") as client:
        for _ in range(3):  # kernels are compiled, for a prompt and for one that is found
            client.ask([letters(2048, seed=90_001)], 4)
        figures.put(f"TTFT of {sizes.warm}, after a restart, s", client.ask([warm], 1)[0].first_seconds)
        arrival(client, figures, f"{sizes.late} from disk", [late])
    return figures


def decode(client: Client, figures: Figures, count: int) -> None:
    prompts = [letters(_PROMPT_TOKENS, seed=1000 * count + number) for number in range(count)]
    client.ask([letters(_PROMPT_TOKENS, seed=2000 * count + number) for number in range(count)], 24)
    streams = client.ask(prompts, _ANSWER_TOKENS)
    put_rates(figures, f"{count} streams", streams)
    if count == 8:
        alone = [client.ask([prompt], 32)[0].text for prompt in prompts[:4]]
        same = [same_beginning(one, stream.text) for one, stream in zip(alone, streams, strict=False)]
        figures.put("share of 32 tokens as alone (bf16)", sum(same) / len(same))


def same_beginning(text: str, other: str) -> float:
    """The share of `text` that `other` begins with."""
    return next(
        (index for index, pair in enumerate(zip(text, other, strict=False)) if len(set(pair)) > 1), len(text)
    ) / len(text)


def sampled(client: Client, figures: Figures, count: int) -> None:
    client.ask([letters(_PROMPT_TOKENS, seed=4000 * count + number) for number in range(count)], 24, temperature=0.7)
    prompts = [letters(_PROMPT_TOKENS, seed=3000 * count + number) for number in range(count)]
    put_rates(figures, f"{count} streams, sampled", client.ask(prompts, _ANSWER_TOKENS, temperature=0.7))


def put_rates(figures: Figures, name: str, streams: list[Stream]) -> None:
    """Tokens a second over everything, and while all streams run."""
    ends = [stream.times[-1] for stream in streams]
    tokens = sum(stream.tokens for stream in streams)
    figures.put(f"{name}: tokens/s", tokens / (max(ends) - min(stream.asked for stream in streams)))
    start, end = max(stream.times[0] for stream in streams), min(ends)
    pieces = sum(start < moment <= end for stream in streams for moment in stream.times)
    per_piece = tokens / sum(len(stream.times) for stream in streams)
    if pieces:
        figures.put(f"{name}: tokens/s, all running", pieces * per_piece / (end - start))
    figures.put(f"{name}: tokens a piece", per_piece)


def prefill(client: Client, figures: Figures, count: int) -> None:
    client.ask([letters(count, seed=10 * count)], 1)
    seconds = [client.ask([letters(count, seed=10 * count + number)], 1)[0].first_seconds for number in (1, 2)]
    figures.put(f"prefill {count}, tokens/s", count / median(seconds))


def arrival(client: Client, figures: Figures, name: str, newcomers: list[str]) -> None:
    """The longest gap of four streams, and each newcomer's time to its first token."""
    gaps, waits = [], []
    for turn, newcomer in enumerate(newcomers):
        seed = 20 * len(newcomer) + 4 * turn
        prompts = [letters(_PROMPT_TOKENS, seed + number) for number in range(4)]
        streams, late = client.ask_beside(prompts, 320, newcomer, after=24)
        gaps.append(max(stream.longest_gap for stream in streams))
        waits.append(late.first_seconds)
    figures.put(f"longest gap while {name} arrive, ms", 1000 * median(gaps))
    figures.put(f"TTFT of the {name}, s", median(waits))


@contextlib.contextmanager
def serving(contender: Contender, log: Path, figures: Figures, name: str) -> Iterator[Client]:
    with running(contender, log) as server:
        figures.put(name, server.start_seconds)
        if contender.home is not None:
            print("  models:", server.client.get("/v1/models").text, flush=True)
        yield Client(httpx.URL(str(server.client.base_url)).port or 80, contender.model)


@dataclass(frozen=True, slots=True)
class Sizes:
    streams: tuple[int, ...] = _STREAMS
    prefills: tuple[int, ...] = _PREFILLS
    arrivals: tuple[int, ...] = _ARRIVALS
    warm: int = _WARM_TOKENS
    late: int = _LATE_TOKENS


def rates() -> tuple[float, float]:
    """Bytes a second of a large copy, read and written; operations a second of a large bf16 product."""
    source = mx.random.normal((1 << 30,), dtype=mx.bfloat16)
    left, right = (mx.random.normal((8192, 8192), dtype=mx.bfloat16) for _ in range(2))
    mx.eval(source, left, right)
    copied = min(_seconds(lambda: source + 1) for _ in range(10))
    product = min(_seconds(lambda: left @ right) for _ in range(10))
    return 2 * source.nbytes / copied, 2 * 8192**3 / product


def _seconds(compute: object) -> float:
    assert callable(compute)
    began = time.perf_counter()
    mx.eval(compute())
    mx.synchronize()
    return time.perf_counter() - began


def floor(weights: int, bandwidth: float, operations: float, gpus: int = 1) -> dict[str, float]:
    """The best that any server could do, by the names of `measure`; what GPUs tell one another counts for nothing."""
    table = {}
    bandwidth, operations = gpus * bandwidth, gpus * operations
    length = _PROMPT_TOKENS + _ANSWER_TOKENS / 2
    for count in _STREAMS:
        step = (weights + count * length * _KV_BYTES) / bandwidth
        table[f"{count} streams: tokens/s, all running"] = count / step
    for count in _PREFILLS:
        attention = 2 * 36 * 32 * 128 * count  # operations a token, half of the square
        table[f"prefill {count}, tokens/s"] = operations / (weights + attention)  # two a bf16 weight: one a byte
    return table


def report(found: dict[str, Figures], floors: dict[str, dict[str, float]]) -> str:
    """A Markdown table of every figure, the floors in columns of their own."""
    columns = {name: figures.of for name, figures in found.items()} | floors
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(name for figures in found.values() for name in figures.of):
        cells = [f"{column[name]:.4g}" if name in column else "" for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/omlx-gpu"), help="for the model, caches and logs")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and short prompts: tries the script itself")
    parser.add_argument("--servers", nargs="+", default=["omlx", "mlx_lm.server"], help=f'also "{_GROUP}"')
    parser.add_argument("--streams", nargs="+", type=int, default=_STREAMS)
    parser.add_argument("--prefills", nargs="+", type=int, default=_PREFILLS, help="prompts' lengths")
    parser.add_argument("--arrivals", nargs="+", type=int, default=_ARRIVALS, help="prompts that arrive beside streams")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    model = options.folder / "models" / "random-8b"
    if not model.exists():
        build(model, options.tiny)
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    bandwidth, operations = (1.0, 1.0) if options.tiny else rates()
    mx.clear_cache()
    print(f"weights {weights / 1e9:.2f} GB, copy {bandwidth / 1e9:.0f} GB/s, bf16 {operations / 1e12:.0f} Tflop/s")
    home = options.folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    sizes = Sizes(tuple(options.streams), tuple(options.prefills), tuple(options.arrivals))
    if options.tiny:
        sizes = Sizes((1, 2), (256,), (512,), 600, 700)
    found: dict[str, Figures] = {}
    for contender in contenders(model, home, options.servers):
        print(contender.name, flush=True)
        found[contender.name] = measure(contender, options.folder, sizes)
        if options.json:
            options.json.write_text(json.dumps({name: figures.of for name, figures in found.items()}, indent=1))
    floors = {"floor": floor(weights, bandwidth, operations)}
    if _GROUP in found:
        floors[f"floor, {_RANKS} GPUs"] = floor(weights, bandwidth, operations, _RANKS)
    print(report(found, {} if options.tiny else floors))
    return 0


if __name__ == "__main__":
    sys.exit(main())
