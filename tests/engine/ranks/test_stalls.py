"""A rank that lives and gets no further, or stood still for a while, is named, and no rank stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omlx.server.engine.blas import engine_environment

from .models import write_llama
from .test_group import ring

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("stalling", [0, 1])
def test_a_rank_whose_computation_stalls_is_named_though_it_lives(tmp_path: Path, stalling: int) -> None:
    model = write_llama(tmp_path / "model")
    environment = {**engine_environment(os.environ), "MLX_HOSTFILE": str(ring(tmp_path, 2))}
    command = [sys.executable, "-m", "tests.engine.ranks.stalling_child", str(model), str(stalling)]
    ranks = [
        subprocess.Popen(
            command, cwd=_ROOT, env={**environment, "MLX_RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        printed = ranks[0].communicate(timeout=50)[0]
        assert [rank.wait(20) for rank in ranks] == [1, 1]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    assert printed.startswith(f"rank {stalling} "), printed
    assert "got no further for" in printed
    assert f"rank {1 - stalling}" not in printed


_RANK_0 = """
import socket, threading
from omlx.server.engine.messages import RankMemory
from omlx.server.engine.ranks.control import Members
from omlx.server.engine.ranks.progress import Progress
listener = socket.create_server(("127.0.0.1", 0))
lost = threading.Event()
members = Members(listener, 2, RankMemory, Progress(), lambda reason: (print(reason, flush=True), lost.set()))
print(listener.getsockname()[1], members.token.hex(), flush=True)
members.meet()
print("met", flush=True)
lost.wait(30)
"""
_RANK_1 = """
import os, sys, time
from omlx.server.engine.messages import RankMemory
from omlx.server.engine.ranks.control import Meeting, Membership
from omlx.server.engine.ranks.progress import Progress
meeting = Meeting("127.0.0.1", int(sys.argv[1]), bytes.fromhex(sys.argv[2]))
Membership(meeting, 1, RankMemory, Progress(), lambda reason: (print(reason, flush=True), os._exit(1)))
time.sleep(30)
"""


def test_a_rank_0_that_stood_still_and_goes_on_blames_itself() -> None:
    with subprocess.Popen([sys.executable, "-c", _RANK_0], stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        try:
            meeting = leader.stdout.readline().split()
            command = [sys.executable, "-c", _RANK_1, *meeting]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
                assert leader.stdout.readline() == "met\n"
                leader.send_signal(signal.SIGSTOP)
                assert follower.communicate(timeout=30)[0] == "rank 0 has not answered for 3 seconds\n"
            leader.send_signal(signal.SIGCONT)
            assert leader.stdout.readline().startswith("rank 0 stood still for more than 3 seconds")
        finally:
            leader.kill()
