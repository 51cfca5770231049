"""The memory budget, on numbers alone."""

from __future__ import annotations

import pytest

from omlx.server.models.device_memory import machine_memory, plan

GIB = 1 << 30


@pytest.mark.parametrize(
    ("limit", "expected"), [("max\n", 16 * GIB), ("", 16 * GIB), (f"{4 * GIB}\n", 4 * GIB), (f"{64 * GIB}", 16 * GIB)]
)
def test_a_container_has_what_its_limit_leaves(limit: str, expected: int):
    assert machine_memory(4096, 16 * GIB // 4096, limit) == expected


def test_the_prefix_cache_gets_a_share_of_what_the_weights_leave():
    assert plan(16 * GIB, 8 * GIB).prefix_cache == 2 * GIB
    assert plan(8 * GIB, 9 * GIB).prefix_cache == 0


def test_freed_buffers_are_bounded_on_any_machine():
    assert plan(512 * GIB, 0).buffers == 2 * GIB
    assert plan(GIB, 0).buffers == 64 << 20
