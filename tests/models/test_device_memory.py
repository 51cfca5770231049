"""The memory budget, on numbers alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from omlx.server.models.device_memory import cgroup_limits, machine_memory, plan

GIB = 1 << 30


@pytest.mark.parametrize(
    ("limits", "expected"), [([], 16 * GIB), ([4 * GIB, 8 * GIB], 4 * GIB), ([64 * GIB], 16 * GIB)]
)
def test_the_least_limit_holds(limits: list[int], expected: int):
    assert machine_memory(4096, 16 * GIB // 4096, limits) == expected


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "4096\n"}, [4096]),
        ("0::/\n", {"memory.max": "max\n"}, []),
        ("0::/\n", {}, []),
        (
            "0::/user.slice/omlx.service\n",
            {"user.slice/omlx.service/memory.max": "max\n", "user.slice/memory.max": "8192\n"},
            [8192],
        ),
        (
            "4:memory:/docker/abc\n1:cpu:/\n0::/\n",
            {
                "memory/docker/abc/memory.limit_in_bytes": "4096\n",
                "memory/memory.limit_in_bytes": "99999999999999999\n",
            },
            [4096, 99999999999999999],
        ),
        ("4:memory:/docker/abc\n", {"memory/memory.limit_in_bytes": "4096\n"}, [4096]),
    ],
)
def test_the_limits_of_cgroups_are_found_from_the_own_one_up(
    tmp_path: Path, membership: str, files: dict[str, str], expected: list[int]
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_limits(tmp_path, membership) == expected


def test_of_a_limit_of_address_space_counts_what_can_become_memory():
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "from omlx.server.models.device_memory import device_memory; print(device_memory(False).total)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(told.stdout) == 2 << 30


def test_the_prefix_cache_gets_a_share_of_what_the_weights_leave():
    assert plan(16 * GIB, 8 * GIB).prefix_cache == 2 * GIB
    assert plan(8 * GIB, 9 * GIB).prefix_cache == 0


def test_freed_buffers_are_bounded_on_any_machine():
    assert plan(512 * GIB, 0).buffers == 2 * GIB
    assert plan(GIB, 0).buffers == 64 << 20
