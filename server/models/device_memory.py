"""How much memory there is for models, and how an engine divides its part. Sizes in bytes."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20
_CACHE_SHARE = 0.25
"""The prefix cache's share of what the weights leave of the machine's memory."""
_BUFFER_SHARE = 0.05
_MAX_BUFFER = 2048 * _MIB
_LARGE_ROW_SHARE = 1 / 128
_SHARED_WITH_THE_SYSTEM = 0.75
"""Of memory that models share with the system and everything else that runs; a GPU's own is theirs but for a tenth."""
_OWN = 0.9
_RESERVED_SPACE = 1 << 30
"""Of address space: what libraries, the threads' stacks and the allocator take, most of which is never memory."""
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_GPU_SECONDS = 10


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """`total` is what the device has for this process, `usable` what models may take of it in all."""

    total: int
    usable: int

    def times(self, count: int) -> DeviceMemory:
        """That of so many devices like this one."""
        return DeviceMemory(self.total * count, self.usable * count)


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """`prefix_cache` bounds the cached prefixes; `buffers`, the freed buffers MLX may hold on to. Where a sequence of
    more than `large_row` is decoded, no memory lies idle beside it."""

    prefix_cache: int
    buffers: int
    large_row: int


def device_memory(has_own_gpu: bool) -> DeviceMemory:
    """The memory of the device that models run on: a CUDA GPU's own where `has_own_gpu`, else the machine's, or less
    in a container or under another limit. Known without MLX; a GPU that does not say has as much as the machine."""
    machine = machine_memory(os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES"), _limits())
    gpu = _gpu_memory() if has_own_gpu else None
    if gpu is not None:
        return DeviceMemory(gpu, int(gpu * _OWN))
    return shared_memory(machine)


def shared_memory(total: int) -> DeviceMemory:
    """What models may take of memory that they share with the system."""
    return DeviceMemory(total, int(total * _SHARED_WITH_THE_SYSTEM))


def machine_memory(page_bytes: int, num_pages: int, limits: Sequence[int]) -> int:
    """What this process may use at most: the machine's memory, or the least of the `limits`."""
    return min([page_bytes * num_pages, *limits])


def cgroup_limits(cgroups: Path, membership: str) -> list[int]:
    """What the process's cgroup and those above it may use, of either version.

    `membership` is the text of /proc/self/cgroup. In a container the groups' root is its own.
    """
    found: list[int] = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, name = (cgroups / "memory", "memory.limit_in_bytes") if controllers else (cgroups, "memory.max")
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):
                found.append(int((folder / name).read_text()))  # "max" is no number
            if folder == root:
                break
    return found


def plan(total: int, weights: int) -> MemoryBudget:
    """The budget of one engine on a device with `total` bytes of memory."""
    free = max(0, total - weights)
    buffers = max(64 * _MIB, min(_MAX_BUFFER, int(total * _BUFFER_SHARE)))
    return MemoryBudget(int(free * _CACHE_SHARE), buffers, int(total * _LARGE_ROW_SHARE))


def _limits() -> list[int]:
    """Of cgroups and of address space."""
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    limits = [] if space == resource.RLIM_INFINITY else [max(0, space - _RESERVED_SPACE)]
    with contextlib.suppress(OSError):
        limits += cgroup_limits(_CGROUPS, _MEMBERSHIP.read_text())
    return limits


def _gpu_memory() -> int | None:
    """The first GPU's memory, as the driver's own tool tells it."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True)
        return int(done.stdout.split()[0]) * _MIB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
