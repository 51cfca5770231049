"""Everything that abuses omlx, one after the other, and one table of it: `python -m tests.torture`.

`--share 0.01` does a hundredth of it, `--only soak` one part. The table is what docs/reliability.md holds.
"""

from __future__ import annotations

import argparse
import functools
import logging
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from . import crowd, deaths, disk, edits, grammars, kills, leaving, oversize, readers, soak, tiers, undo, warm
from .load import MOST_BYTES_A_REQUEST, load, percentile
from .machines import machines
from .ranks import answers
from .schema import schema

HEAD = "| what was done | how often | lost | wrong | notes |\n|---|--:|--:|--:|---|"
_LEAST_TIMES = 100
"""Of one kind, before its 99th percentile says anything."""


@dataclass(frozen=True)
class Row:
    what: str
    done: int
    lost: int
    wrong: int
    notes: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.done:,} | {self.lost:,} | {self.wrong:,} | {self.notes} |"


def mixed_requests(share: float) -> Iterator[Row]:
    """At full length, less than a fifth of them cut is wrong. Some who would leave have their answer before that."""
    requests = max(60, int(10_000 * share))
    outcome = load(requests, cut_share=0.25)
    counts = outcome.counts
    is_few = share >= 1 and counts["cut"] < requests / 5
    num_bytes, descriptors = outcome.growth
    has_grown = share >= 1 and (descriptors > 0 or num_bytes > MOST_BYTES_A_REQUEST * requests / 2)
    yield Row(
        "mixed requests, four dialects, streaming and not",
        counts["answered"] + counts["cut"],
        outcome.num_lost,
        counts["wrong"] + counts["wrong before the cut"] + has_grown + is_few,
        f"{counts['cut']:,} cut by the client; 64 at once; {outcome.seconds:.0f} s; at rest in the middle and at the "
        f"end: {num_bytes / 1e6:+.1f} MB, {descriptors:+d} descriptors",
    )
    held = sum(outcome.held.values())
    kinds = ", ".join(f"{count} {what}" for what, count in outcome.held.items())
    yield Row("leases and streams still held at the end", held, 0, held, kinds)


def cancels(share: float) -> Iterator[Row]:
    for parallel, words, filling in ((4, "four at once", 500.0), (64, "64 at once", 60.0)):
        outcome = load(max(60, int(2000 * share)), parallel, cut_share=0.7, seed=2, filling=filling)
        yield Row(
            f"requests of which most are left, {words}, and what is held at the end",
            outcome.counts["answered"] + outcome.counts["cut"],
            outcome.num_lost,
            outcome.wrong - outcome.num_lost,
        )
        kinds = [*outcome.freed.items()]
        if parallel == 4:  # of 64, one is at its prompt, and the others that have no answer yet have no row either
            kinds.append(("while its prompt is computed", outcome.freed_in_prefill))
        for left, values in kinds:
            most = 0.25 if left == "while it waits" else 0.1  # at its prompt, a stream or not
            yield _times(f"a client leaves {left}, until its row is free", values, most, share, f"{words}: ")
    left = leaving.leave(max(3, int(120 * share)))
    yield Row(
        "clients that leave a real model, and what is held at the end",
        sum(map(len, left.seconds.values())),
        left.counts["deaths"],
        left.counts["held at the end"],
    )
    notes = f"a real model, {left.num_tokens:,} tokens, in pieces of {1000 * left.piece_seconds:.0f} ms: "
    for what, values in left.seconds.items():
        most = leaving.MOST_SECONDS[what]
        yield _times(f"a client leaves {what}, until its row is free", values, most, share, notes)


def _times(what: str, seconds: list[float], most: float, share: float, notes: str) -> Row:
    """At full length, few times are as bad as long ones."""
    is_bad = share >= 1 and (len(seconds) < _LEAST_TIMES or percentile(seconds, 0.99) > most)
    p50, p99 = (1000 * percentile(seconds, part) for part in (0.5, 0.99))
    return Row(what, len(seconds), 0, is_bad, f"{notes}p50 {p50:.0f} ms, p99 {p99:.0f} ms")


def large_requests(share: float) -> Iterator[Row]:
    counts = oversize.oversize(max(4, int(100 * share)), 1_000_000, 3 << 30)
    refused = ", ".join(f"{counts[name]} {name}" for name in ("too long", "too many", "too large", "busy", "answered"))
    small = counts["small answered"]
    yield Row(
        "requests of up to 60 MB, four at once",
        oversize.num_asked(counts),
        counts["deaths"],
        oversize.faults(counts) - counts["deaths"] + (share >= 1 and oversize.is_mostly_busy(counts)),
        f"a window of a million tokens, 3 GiB of address space a process; {refused}; {small} small ones in between",
    )


def crowded_prompts(share: float) -> Iterator[Row]:
    found = crowd.crowd(max(4, int(100 * share)), 4 << 30)
    space, resident = (size / (1 << 30) for size in found.peaks)
    counts = found.counts
    yield Row(
        "prompts that fit one by one and not together, twelve at once",
        found.num_asked,
        counts["deaths"],
        found.faults - counts["deaths"] + (share >= 1 and found.is_mostly_refused),
        f"256 KiB of keys and values a token, 4 GiB of address space a process, of which one took at most {space:.2f}, "
        f"and {resident:.2f} in memory; {counts['answered']} answered, "
        f"{counts['too long']} too long, {counts['busy']} busy; at most {found.most_waiting} waiting beside one that "
        f"ran, {found.num_evicted} blocks evicted",
    )


def two_tiers(share: float) -> Iterator[Row]:
    found = tiers.tiers(6, 62.0, 180.0) if share >= 1 else tiers.tiers(1, 4.0, 2.0, num_prefixes=3)
    counts, figures = found.counts, found.figures
    sizes = ", then ".join(f"{size / 1e6:.0f} MB" for size in found.own_bytes)
    yield Row(
        "a real model, prefixes in memory and on disk, its engine killed",
        counts["answered"] + counts["cut"],
        found.num_lost,
        found.num_wrong,
        f"{counts['cut']:,} cut by the client; {counts['kills']} kills, {counts['asked again']:,} requests told so and "
        f"asked again; {figures['ram']:,} tokens from memory, {figures['disk']:,} from disk; {found.seconds:.0f} s; "
        f"the last engine's own memory {sizes}",
    )


def cache_files(share: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        killed = disk.kills(Path(name) / "kills", max(3, int(1000 * share)))
        yield Row(
            "SSD tier: its writer killed",
            killed["kills"],
            killed["lost"],
            sum(disk.bad(killed).values()) - killed["lost"],
            f"{killed['killed in a write']:,} in a write; {killed['read']:,} blocks read afterwards",
        )
        damaged = disk.faults(Path(name) / "faults", max(20, int(10_000 * share)))
        yield Row(
            "SSD tier: files damaged in eight ways",
            damaged["faults"],
            damaged["lost"],
            sum(disk.bad(damaged).values()) - damaged["lost"],
            f"{damaged['thrown away']:,} files thrown away, each that was damaged and no other",
        )


def many_schemas(share: float) -> Iterator[Row]:
    count = max(200, int(10_000 * share))
    kept = grammars.grammars(count)
    yield Row(
        "tiny schemas, each another, in one engine's cache of grammars",
        count,
        0,
        not kept.is_bounded,
        f"{kept.num_grammars} kept, {kept.num_files} files; {kept.num_bytes / 1e6:+.2f} MB in the second half",
    )


def settings_edits(share: float) -> Iterator[Row]:
    for dialect in undo.DIALECTS:
        count = 5000 if dialect in ("yaml", "toml") else 6667
        verdicts = edits.torture(dialect, max(20, int(count * share)), seed=1)
        lost = verdicts["lost comments"] + verdicts["changed lines"]
        wrong = sum(verdicts.values()) - verdicts["edits"] - lost
        yield Row(f"settings files: {dialect.upper()} edited", verdicts["edits"], lost, wrong)


def settings_kills(share: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        for dialect in kills.FORMATS:
            counts = kills.kills(Path(name), dialect, max(3, int(1000 * share)), seed=1)
            yield Row(
                f"settings files: {dialect.upper()}, its writer killed",
                counts["cycles"],
                counts["lost keys"] + counts["lost writes"],
                counts["unreadable"] + counts["left over"],
                f"{counts['killed in a write']:,} in a write",
            )
        writers, increments = 8, max(2, int(200 * share))
        count = kills.together(Path(name), writers, increments)
        yield Row("settings files: a counter, by eight writers", writers * increments, writers * increments - count, 0)


def settings_undone(share: float) -> Iterator[Row]:
    for dialect in undo.DIALECTS:
        verdicts = undo.torture(dialect, max(10, int(600 * share)), seed=1)
        wrong = sum(verdicts[name] for name in undo.COLUMNS[1:])
        yield Row(f"settings files: {dialect.upper()} wired and restored", verdicts["rounds"], 0, wrong)


def warm_answers(share: float) -> Iterator[Row]:
    for kind in warm.KINDS:
        cuts = warm.edges(warm.LENGTH)
        with tempfile.TemporaryDirectory() as name:
            found = warm.warm(kind, Path(name), cuts[:: max(1, round(1 / share))], seed=1)
        hits, read = found.hits.total(), found.read.total()
        notes = f"{hits:,} warm to the cut, {read:,} from disk"
        yield Row(f"{kind}: warm answers beside cold ones", found.answers.total(), 0, len(found.wrong), notes)


def engine_deaths(share: float) -> Iterator[Row]:
    yield _deaths("an engine killed or aborted", deaths.engine_deaths(max(1, int(10 * share))), 2.0)


def rank_deaths(share: float) -> Iterator[Row]:
    del share
    for what, ends in deaths.rank_deaths():
        yield _deaths(what, ends, 5.0)


def _deaths(what: str, ends: deaths.Ends, most: float) -> Row:
    times = f"p50 {1000 * percentile(ends.seconds, 0.5):.0f} ms, longest {1000 * max(ends.seconds):.0f} ms"
    lost, late = ends.num_cut + ends.num_failures, sum(seconds > most for seconds in ends.seconds)
    return Row(f"{what}, until its streams have their error", len(ends.seconds), lost, late + ends.num_held, times)


def ranks(share: float) -> Iterator[Row]:
    for size in (2, 4) if share >= 1 else (2,):
        for what, count, wrong in answers(size):
            yield Row(f"{size} ranks: {what}", count, 0, wrong, "answers beside one process's own")


def slow_readers(share: float) -> Iterator[Row]:
    found = readers.readers(max(2.0, 60 * share), 2 if share >= 1 else 1)
    is_bad = share >= 1 and (found.growth[True] > readers.MOST_BYTES or found.ratio > readers.MOST_RATIO)
    yield Row(
        f"streams beside {readers.NUM_SLOW} clients that read a few bytes a second",
        found.counts["streams"],
        found.counts["engines lost"],
        found.wrong - found.counts["engines lost"] + is_bad,
        readers.told(found),
    )


def soaking(share: float) -> Iterator[Row]:
    """The two engines' at the same time, each with a process of its own that asks."""
    soaked = functools.partial(soak.soak, max(30.0, 1800 * share))
    with ProcessPoolExecutor(len(soak.ENGINES), multiprocessing.get_context("spawn")) as processes:
        for engine, found in zip(soak.ENGINES, processes.map(soaked, soak.ENGINES), strict=True):
            yield _soaked(soak.ENGINES[engine], found, share)


def _soaked(what: str, found: soak.Soak, share: float) -> Row:
    counts, slopes = found.outcome.counts, found.slopes
    first, second = found.descriptors
    has_grown = share >= 1 and found.has_grown
    return Row(
        f"a soak: mixed requests on end, {what}",
        counts["answered"] + counts["cut"],
        found.outcome.num_lost,
        found.outcome.wrong - found.outcome.num_lost + has_grown,
        f"{found.outcome.seconds / 60:.0f} min; in the second half: server {slopes['server']} MB/h, engine "
        f"{slopes['engine']}; descriptors at most {first}, then {second}",
    )


def state_machines(share: float) -> Iterator[Row]:
    for ran in machines(max(100, int(10_000 * share))):
        yield Row(f"steps of a state machine: {ran.what}", ran.num_steps, 0, ran.has_failed)


def schema_requests(share: float) -> Iterator[Row]:
    for ran in schema(max(1, int(100 * share))):
        yield Row(f"requests by the OpenAPI document: {ran.what}", ran.num_requests, 0, ran.has_failed, ran.notes)


PARTS: dict[str, Callable[[float], Iterator[Row]]] = {
    "requests": mixed_requests,
    "cancels": cancels,
    "large": large_requests,
    "crowd": crowded_prompts,
    "tiers": two_tiers,
    "cache": cache_files,
    "grammars": many_schemas,
    "edits": settings_edits,
    "kills": settings_kills,
    "undo": settings_undone,
    "warm": warm_answers,
    "deaths": engine_deaths,
    "rank deaths": rank_deaths,
    "ranks": ranks,
    "readers": slow_readers,
    "soak": soaking,
    "machines": state_machines,
    "schema": schema_requests,
}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--share", type=float, default=1.0, help="of the full numbers")
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    wanted = arguments.parse_args()
    logging.disable(logging.WARNING)
    rows: list[Row] = []
    for part in wanted.only:
        for row in PARTS[part](wanted.share):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, {date.today():%-d %B %Y}, load average {os.getloadavg()[2]:.1f} at the end\n\n{HEAD}")
    print("\n".join(map(str, rows)))
    return 1 if any(row.lost or row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
