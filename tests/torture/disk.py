"""The prefix cache's files, killed in the middle of a write and damaged in every way.

    python -m tests.torture.disk --kills 1000 --faults 10000

A block that is read holds what was written under its name, or is not served at all.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import select
import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from omlx.server.cache.blocks import BlockHash, block_hash, root_hash
from omlx.server.cache.disk_tier import DiskLimits, DiskTier

from ..cache.test_disk_tier import MODEL, OTHER_MODEL, TOKENS, Text, TextCodec
from ..waiting import wait_until

_ROOT = root_hash("torture")
_LIMITS = DiskLimits(max_bytes=20_000_000, max_bytes_per_day=1 << 50, free_share=1.0)
_WIDE = replace(_LIMITS, max_bytes=1 << 30)
_BLOCKS_A_WRITER = 40
_BAD = ("wrong", "lost", "missed", "damaged", "over the cap", "left over")
FAULTS = ("bit flip", "cut", "longer", "zero page", "swapped", "another model's", "renamed", "empty")


def name_of(number: int) -> BlockHash:
    return block_hash(_ROOT, [number])


def contents(number: int) -> bytes:
    """What stands in a block: random bytes that its number gives."""
    chance = random.Random(number)
    return chance.randbytes(chance.randrange(1, 400_000))


def open_tier(folder: Path, identity: str = MODEL, limits: DiskLimits = _LIMITS) -> DiskTier[Text]:
    return DiskTier(folder, identity, TextCodec(), limits)


def bad(counts: Counter[str]) -> dict[str, int]:
    """What should not have been."""
    return {name: counts[name] for name in _BAD if counts[name]}


def kills(folder: Path, cycles: int, seed: int = 1) -> Counter[str]:
    """Kill a writer again and again; after each, read everything that is there."""
    chance, counts = random.Random(seed), Counter[str]()
    for cycle in range(cycles):
        heard = _killed_writer(folder, range(cycle * 10, cycle * 10 + _BLOCKS_A_WRITER), chance)
        counts["kills"] += 1
        counts["killed in a write"] += any(folder.rglob("*.part"))
        tier = open_tier(folder)
        for number in range(max(0, cycle * 10 - 100), cycle * 10 + _BLOCKS_A_WRITER):
            payload = tier.read(name_of(number))
            counts["read"] += payload is not None
            counts["wrong"] += payload is not None and payload.text != contents(number)
            counts["lost"] += payload is None and number in heard
        counts["damaged"] += tier.num_damaged
        counts["over the cap"] += _size(folder) > _LIMITS.max_bytes
        tier.close()
        counts["left over"] += any(folder.rglob("*.part"))
    return counts


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.*"))


def _killed_writer(folder: Path, numbers: range, chance: random.Random) -> set[int]:
    """Fork a writer and kill it at a random moment, most often after it has written something; the blocks that it said
    were written, the last few of them."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        tier = open_tier(folder)
        for number in numbers:
            while not tier.has_room():
                pass
            tier.write(name_of(number), _ROOT, TOKENS, Text(contents(number)))
            written = [old for old in range(numbers.start, number) if tier.holds(name_of(old))]
            os.write(writing, b"".join(old.to_bytes(4, "little") for old in written[-3:]))
        os._exit(0)
    os.close(writing)
    heard = os.read(reading, 65536) if chance.random() < 0.8 else b""
    select.select([], [], [], chance.random() * 0.03)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    while piece := os.read(reading, 65536):
        heard += piece
    os.close(reading)
    return {int.from_bytes(heard[at : at + 4], "little") for at in range(0, len(heard) - 3, 4)}


def faults(folder: Path, count: int, seed: int = 1) -> Counter[str]:
    """Damage files one by one, and read the block of each, and the one that it now claims to be.

    A damaged file is "missed" where its block's reading did not count it, or it still lies there; a whole one is "lost"
    where its block was not served, it was counted as damaged, or it is gone.
    """
    chance, counts, number = random.Random(seed), Counter[str](), 0
    while counts["faults"] < count:
        numbers = list(range(number, number + 40))
        number += 40
        for identity in (MODEL, OTHER_MODEL):
            tier = open_tier(folder, identity, _WIDE)
            for each in numbers:
                while not tier.has_room():
                    pass
                tier.write(name_of(each), _ROOT, TOKENS, Text(contents(each if identity == MODEL else -each - 1)))
            tier.close()
        files = _files_by_block(folder)
        for each in chance.sample(numbers, 20):
            file = files[name_of(each).hex()]
            if file.exists():
                fault = chance.choice(FAULTS)
                counts["faults"] += _damage(file, fault, chance, folder)
        counts += _read(folder, {each: files[name_of(each).hex()] for each in numbers})
        shutil.rmtree(folder)
    return counts


def _read(folder: Path, written: dict[int, Path]) -> Counter[str]:
    """Read each block that was written to these files, and look at the file that has its name now. Half of them are
    read ahead, and some of those files are whole again afterwards."""
    counts, tier = Counter[str](), open_tier(folder, limits=_WIDE)
    ahead = [number for number in written if number % 2]
    tier.fetch([name_of(number) for number in ahead])
    wait_until(lambda: not tier.is_fetching([name_of(number) for number in ahead]))
    for number in ahead[::8]:
        if written[number].exists():
            written[number].write_bytes(contents(number))
    now = _files_by_block(folder)
    for number, file in written.items():
        there = now.get(name_of(number).hex())
        is_whole = there == file and file.read_bytes() == contents(number)
        num_damaged = tier.num_damaged
        payload = tier.read(name_of(number))
        is_counted = tier.num_damaged == num_damaged + 1
        counts["wrong"] += payload is not None and payload.text != contents(number)
        counts["thrown away"] += is_counted
        if there is not None:
            counts["lost"] += is_whole and (payload is None or is_counted or not there.exists())
            counts["missed"] += not is_whole and (not is_counted or there.exists())
    tier.close()
    return counts


def _files_by_block(folder: Path) -> dict[str, Path]:
    return {file.name.partition(".")[0]: file for file in (folder / MODEL).iterdir()}


def _damage(file: Path, fault: str, chance: random.Random, folder: Path) -> bool:
    """Damage the file; whether it is another now."""
    raw = file.read_bytes()
    at = chance.randrange(len(raw))
    others = [other for other in file.parent.iterdir() if other != file]
    match fault:
        case "bit flip":
            new = raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]
        case "cut":
            new = raw[:at]
        case "longer":
            new = raw + chance.randbytes(chance.randrange(1, 100))
        case "zero page":
            new = raw[:at] + bytes(len(raw[at : at + 4096])) + raw[at + 4096 :]
        case "swapped":
            other = chance.choice(others)
            new, _ = other.read_bytes(), other.write_bytes(raw)
        case "another model's":
            foreign = next((folder / OTHER_MODEL).glob(f"{file.name.partition('.')[0]}.*"), None)
            new = foreign.read_bytes() if foreign else b""
        case "renamed":
            other = chance.choice(others)
            claimed, _, rest = other.name.partition(".")
            file.rename(file.with_name(f"{claimed}.{file.name.partition('.')[2]}"))
            other.unlink(missing_ok=True)
            return bool(rest)
        case _:
            new = b""
    file.write_bytes(new)
    return new != raw


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=1000)
    arguments.add_argument("--faults", type=int, default=10_000)
    wanted = arguments.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        killed = kills(Path(name) / "kills", wanted.kills)
        print(dict(killed), flush=True)
        damaged = faults(Path(name) / "faults", wanted.faults)
        print(dict(damaged))
    return 1 if bad(killed) or bad(damaged) else 0


if __name__ == "__main__":
    sys.exit(main())
