"""How much memory there is for models, and how an engine divides its part. Sizes in bytes."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20
_CACHE_SHARE = 0.25
"""The prefix cache's share of what the weights leave of the machine's memory."""
_BUFFER_SHARE = 0.05
_MAX_BUFFER = 2048 * _MIB
_SHARED_WITH_THE_SYSTEM = 0.75
"""Of memory that models share with the system and everything else that runs; a GPU's own is theirs but for a tenth."""
_OWN = 0.9
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
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
    """`prefix_cache` bounds the cached prefixes; `buffers`, the freed buffers MLX may hold on to."""

    prefix_cache: int
    buffers: int


def device_memory(has_own_gpu: bool) -> DeviceMemory:
    """The memory of the device that models run on: a CUDA GPU's own where `has_own_gpu`, else the machine's, or less
    in a container. Known without MLX; where the GPU does not say, the machine's stands for it."""
    machine = machine_memory(os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES"), _container_limit())
    gpu = _gpu_memory() if has_own_gpu else None
    if gpu is not None:
        return DeviceMemory(gpu, int(gpu * _OWN))
    return shared_memory(machine)


def shared_memory(total: int) -> DeviceMemory:
    """What models may take of memory that they share with the system."""
    return DeviceMemory(total, int(total * _SHARED_WITH_THE_SYSTEM))


def machine_memory(page_bytes: int, num_pages: int, container_limit: str) -> int:
    """What this process may use at most: the machine's memory, or less in a container.

    `container_limit` is the text of cgroup's memory.max: a number, or "max"; anything else counts as none.
    """
    total = page_bytes * num_pages
    limit = container_limit.strip()
    return min(total, int(limit)) if limit.isdigit() else total


def plan(total: int, weights: int) -> MemoryBudget:
    """The budget of one engine on a device with `total` bytes of memory."""
    free = max(0, total - weights)
    return MemoryBudget(int(free * _CACHE_SHARE), max(64 * _MIB, min(_MAX_BUFFER, int(total * _BUFFER_SHARE))))


def _container_limit() -> str:
    try:
        return _CONTAINER_LIMIT.read_text()
    except OSError:
        return ""


def _gpu_memory() -> int | None:
    """The first GPU's memory, as the driver's own tool tells it."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True)
        return int(done.stdout.split()[0]) * _MIB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
