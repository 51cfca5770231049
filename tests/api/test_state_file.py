"""The file by which the launcher finds a server."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from omlx.server.state_file import ServerState, published, reachable_url

OURS = ServerState(os.getpid(), "127.0.0.1", 8000, "http://127.0.0.1:8000", "ours")
NOBODYS_PID = 2**22 + 1  # above what any kernel gives out


def write(path: Path, state: ServerState) -> None:
    path.write_bytes(msgspec.json.encode(state))


def test_the_file_is_there_while_the_server_runs(tmp_path: Path):
    path = tmp_path / "run" / "server.json"
    with published(path, OURS):
        assert msgspec.json.decode(path.read_bytes(), type=ServerState) == OURS
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_a_second_server_leaves_the_firsts_file_alone(tmp_path: Path):
    path = tmp_path / "server.json"
    first = msgspec.structs.replace(OURS, pid=os.getppid(), instance_id="first")
    write(path, first)
    with published(path, OURS):
        pass
    assert msgspec.json.decode(path.read_bytes(), type=ServerState) == first


def test_the_file_of_a_server_that_died_is_replaced(tmp_path: Path):
    path = tmp_path / "server.json"
    write(path, msgspec.structs.replace(OURS, pid=NOBODYS_PID, instance_id="dead"))
    with published(path, OURS):
        assert msgspec.json.decode(path.read_bytes(), type=ServerState) == OURS


def test_a_file_that_is_no_state_is_replaced(tmp_path: Path):
    path = tmp_path / "server.json"
    path.write_text("not json")
    with published(path, OURS):
        assert msgspec.json.decode(path.read_bytes(), type=ServerState) == OURS


def test_the_address_is_one_that_this_machine_reaches():
    urls = {"0.0.0.0": "http://127.0.0.1:1", "::": "http://[::1]:1", "mac.lan": "http://mac.lan:1"}
    assert {host: reachable_url(host, 1) for host in urls} == urls
