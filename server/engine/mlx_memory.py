"""What an engine process may hold of memory that it has freed."""

from __future__ import annotations

import mlx.core as mx

from ..malloc import give_back_memory
from ..models.device_memory import DeviceMemory, MemoryBudget, device_memory, plan


def bound_memory(weight_bytes: int) -> tuple[DeviceMemory, MemoryBudget]:
    """Bound what MLX may hold on to beside the weights; what there is, and how it is divided. The wired limit is left
    as the system set it."""
    memory = device_memory(has_own_gpu=mx.cuda.is_available())
    budget = plan(memory.total, weight_bytes)
    mx.set_cache_limit(budget.buffers)
    return memory, budget


def give_back() -> None:
    """Let the system have what is free, to be had again when needed."""
    mx.clear_cache()
    give_back_memory()
