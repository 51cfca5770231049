"""Threads of one process allocate from one arena, so that what each had at most does not stay with it."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

THREADS_ALLOCATE = """
import ctypes, sys, threading
from omlx.server.malloc import keep_one_arena

if sys.argv[1] == "one":
    keep_one_arena()
libc = ctypes.CDLL(None)
together = threading.Barrier(8)

def work():
    libc.malloc(100_000)
    together.wait()
    libc.malloc(100_000)

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def num_arenas(wanted: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", THREADS_ALLOCATE, wanted], capture_output=True, text=True, timeout=120, check=True
    )
    return ran.stdout.count("<heap nr=")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc's malloc tells of its arenas")
def test_all_threads_allocate_from_one_arena():
    assert num_arenas("many") > 1
    assert num_arenas("one") == 1
