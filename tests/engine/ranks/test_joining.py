"""Ranks that do not run the same refuse to start, and say what differs."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from omlx.server.engine.blas import engine_environment
from omlx.server.engine.messages import RankMemory
from omlx.server.engine.ranks import DISAGREES_STATUS
from omlx.server.engine.ranks.control import Meeting, Members, Membership
from omlx.server.engine.ranks.joining import agree, leader_host
from omlx.server.engine.ranks.progress import Progress
from omlx.server.errors import EngineFailure, EngineUnavailable

from .models import write_llama
from .test_group import ring

FACTS = {"omlx": "1", "mlx": "0.32.0", "the model": "abc", "the split": "auto", "max_num_seqs": "16"}


class _Ranks:
    """A group as rank 0 sees it, whose others answer with these facts."""

    def __init__(self, others: Mapping[str, str]) -> None:
        self._others = msgspec.msgpack.encode(dict(others))

    def gather_bytes(self, payload: bytes) -> list[bytes]:
        return [payload, self._others]


def _agree(others: Mapping[str, str]) -> None:
    ranks: Any = _Ranks(others)
    agree(ranks, FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_whatever_differs_is_named_with_both_values(name: str) -> None:
    _agree(FACTS)
    with pytest.raises(EngineUnavailable) as refusal:
        _agree(FACTS | {name: "another"})
    assert str(refusal.value) == f"rank 1 has {name} 'another', rank 0 has {FACTS[name]!r}; make them the same"


def test_real_ranks_with_other_settings_or_another_model_end_and_say_so(tmp_path: Path) -> None:
    models = [write_llama(tmp_path / f"model{rank}") for rank in (0, 1)]
    command = [sys.executable, "-m", "omlx.server.engine", "--split=auto"]
    environment = engine_environment(os.environ)
    for differing, name in ((["--max-num-seqs=3", "--max-num-seqs=4"], "engine.max_num_seqs"), ([], "the model")):
        if not differing:
            config = models[1] / "config.json"
            config.write_text(config.read_text().replace("10000.0", "20000.0"))
        environment["MLX_HOSTFILE"] = str(ring(tmp_path, 2))
        ranks = [
            subprocess.Popen(
                [*command, *differing[rank : rank + 1], "--model", str(model)],
                env={**environment, "MLX_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, model in enumerate(models)
        ]
        try:
            told = [rank.communicate(timeout=240)[1] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
        assert f"rank 1 has {name} " in told[1], told
        assert [rank.returncode for rank in ranks] == [DISAGREES_STATUS] * 2


def test_an_engine_that_is_in_no_group_or_whose_group_has_gone_says_which(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model")
    command = [sys.executable, "-m", "omlx.server.engine", "--split=auto", "--model", str(model)]
    environment = {name: value for name, value in engine_environment(os.environ).items() if not name.startswith("MLX_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert "this process is not one of a group" in done.stderr
    (tmp_path / "ring.json").write_text('[["127.0.0.1:1"], ["127.0.0.1:2"]]')  # rank 1's port is not ours to take
    environment |= {"MLX_HOSTFILE": str(tmp_path / "ring.json"), "MLX_RANK": "9"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert "the other ranks of the group were not reached" in done.stderr
    assert "is not one of a group" not in done.stderr


def test_strangers_neither_hold_up_the_meeting_nor_end_it() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address: tuple[str, int] = listener.getsockname()
    members = Members(listener, 2, RankMemory, Progress(), print, print)
    with socket.create_connection(address), socket.create_connection(address) as resetting:
        resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        resetting.sendall(b"GET / HTTP/1.1")
        resetting.close()
        with socket.create_connection(address) as lying:
            lying.sendall(bytes(200))
            meeting = threading.Thread(target=members.meet, args=(20,), daemon=True)
            meeting.start()
            membership = Membership(Meeting(address[0], address[1], members.token), 1, RankMemory, Progress(), print)
            meeting.join(60)
            assert not meeting.is_alive()
    membership.close()
    members.close()


def test_ranks_that_do_not_come_are_named() -> None:
    members = Members(socket.create_server(("127.0.0.1", 0)), 3, RankMemory, Progress(), print, print)
    with pytest.raises(EngineFailure, match="no sign of life from rank 1, 2"):
        members.meet(0.05)


def test_a_rank_0_that_cannot_be_reached_is_an_engine_s_failure_with_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EngineFailure, match=f"rank 0 cannot be reached at 127.0.0.1, port {port}"):
        Membership(Meeting("127.0.0.1", port, bytes(32)), 1, RankMemory, Progress(), print)


def test_under_mpi_rank_0_gives_an_address_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.1.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [found, (*found[:4], ("10.1.2.3", 0))])
    assert leader_host({}) == "10.1.2.3"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [found])  # as on Debian
    assert ipaddress.ip_address(leader_host({})) != ipaddress.ip_address("127.0.1.1")
