"""The file by which the launcher finds a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from omlx.server.errors import SettingsError
from omlx.server.state_file import ServerState, published, reachable_url, sole_server

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


def test_a_second_server_is_refused_and_told_of_the_first(tmp_path: Path):
    path = tmp_path / "run" / "server.json"
    with sole_server(path), published(path, OURS):
        with (
            pytest.raises(SettingsError, match=rf"a server runs at {OURS.url} \(process {OURS.pid}\) already"),
            sole_server(path),
        ):
            pass
        assert msgspec.json.decode(path.read_bytes(), type=ServerState) == OURS
    with sole_server(path):
        pass


def test_a_killed_server_leaves_its_place(tmp_path: Path):
    path = tmp_path / "server.json"
    code = "import sys, pathlib, time; from omlx.server.state_file import sole_server\n"
    code += "with sole_server(pathlib.Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(SettingsError, match="a server runs already"), sole_server(path):
            pass
        first.kill()
    with sole_server(path):
        pass


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


def test_a_home_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SettingsError, match=r"server.lock cannot be written \(Not a directory\); .*OMLX_HOME=FOLDER"),
        sole_server(tmp_path / "file" / "run" / "server.json"),
    ):
        pass
