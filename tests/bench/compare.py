"""`make compare`: omlx beside its peers, row by row of `scenarios`, in one run.

Every round starts each server once, alone, and in turning order; all serve the same folder, compute with the same
BLAS and answer the same prompts. Peers are those found in `--peers`; tests/bench/peers says how to install them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import httpx

from ..e2e.embedded import import_embedded_model
from .chat import ChatClient
from .cut_model import cut
from .scenarios import GOALS, SCENARIOS, Figures, Goal, Scenario
from .servers import Contender, mlx_lm, omlx, peers, running

_CACHE = Path(__file__).parents[2] / ".cache"
_REST_SECONDS = 8.0
"""Before a server's memory is read: it may give back what it needs no more."""
MEMORY = "memory after all, MB"
START = "start to first answer"
_GOALS = {**GOALS, START: Goal(1), MEMORY: Goal(1, unit="MB")}
Samples = dict[str, dict[str, list[float]]]
"""Values by server and figure, one a round."""


def measure(contender: Contender, scenarios: tuple[Scenario, ...], share: float, seed: int, log: Path) -> Figures:
    """One round of one server. A scenario that it cannot do leaves no figure."""
    figures: Figures = {}
    with running(contender, log) as server:
        figures[START] = server.start_seconds
        client = ChatClient(server.port, contender.model)
        for number, scenario in enumerate(scenarios):
            try:
                figures |= scenario(client, share, seed + 1000 * number)
            except (RuntimeError, OSError, TimeoutError, ZeroDivisionError, httpx.HTTPError) as error:
                print(f"{contender.name}: {scenario.__name__}: {error!r:.200}", file=sys.stderr, flush=True)
        time.sleep(_REST_SECONDS)
        figures[MEMORY] = server.resident_bytes() / 1e6
    return figures


def rounds(contenders: list[Contender], scenarios: tuple[Scenario, ...], share: float, count: int) -> Samples:
    samples: Samples = {contender.name: {} for contender in contenders}
    for number in range(count):
        order = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
        for contender in order:
            print(f"round {number + 1} of {count}: {contender.name}", file=sys.stderr, flush=True)
            log = _CACHE / "bench" / f"{contender.name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            try:
                found = measure(contender, scenarios, share, 100_000 * (number + 1), log)
            except (RuntimeError, httpx.HTTPError) as error:
                print(f"{contender.name}: {error}", file=sys.stderr, flush=True)
                continue
            for name, value in found.items():
                samples[contender.name].setdefault(name, []).append(value)
    return samples


def table(samples: Samples) -> str:
    """Medians, the range in brackets for ours, and the ratio to the best peer: above 1 ours is better."""
    ours, theirs = samples["omlx"], {name: of for name, of in samples.items() if name != "omlx"}
    lines = [f"| | omlx | {' | '.join(theirs)} | ratio to the best | wanted |", "|---" * (len(theirs) + 4) + "|"]
    for name, goal in _GOALS.items():
        if name not in ours:
            continue
        values = [median(of[name]) if name in of else None for of in theirs.values()]
        known = [value for value in values if value]
        mine = median(ours[name])
        ratio = "" if not known else f"{mine / max(known) if goal.is_rate else min(known) / mine:.2f}"
        cells = [f"{value:.3g}" if value is not None else "" for value in values]
        spread = f"{mine:.3g} ({min(ours[name]):.3g} to {max(ours[name]):.3g})"
        lines.append(f"| {name}, {goal.unit} | {spread} | {' | '.join(cells)} | {ratio} | {goal.ratio:.2f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=4, help="of the embedded model; 0 for all")
    parser.add_argument("--share", type=float, default=1.0, help="of the scenarios' full size")
    parser.add_argument("--peers", type=Path, default=_CACHE / "peers", help="folder of the peers' environments")
    parser.add_argument("--servers", nargs="+", help="only these")
    parser.add_argument("--scenarios", nargs="+", help="only these")
    parser.add_argument("--json", type=Path, help="write all samples there")
    options = parser.parse_args()
    model = import_embedded_model()
    if options.layers:
        model = cut(model, options.layers, _CACHE / "bench" / "models")
    contenders = [omlx(model), mlx_lm(model), *peers(model, options.peers)]
    contenders = [c for c in contenders if not options.servers or c.name in options.servers]
    scenarios = tuple(s for s in SCENARIOS if not options.scenarios or s.__name__ in options.scenarios)
    samples = rounds(contenders, scenarios, options.share, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(samples, indent=1))
    print(table(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
