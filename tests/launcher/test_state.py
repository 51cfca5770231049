"""What the launcher remembers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omlx.launcher.errors import StateError
from omlx.launcher.state import OmlxHome, glob, read_last_models, read_server_state, remember_model, write_private


@pytest.fixture
def home(tmp_path: Path) -> OmlxHome:
    return OmlxHome(tmp_path / "omlx")


def publish(home: OmlxHome, pid: int) -> None:
    state = {"pid": pid, "host": "0.0.0.0", "port": 8010, "url": "http://127.0.0.1:8010", "instance_id": "a", "new": 1}
    write_private(home.server_state, json.dumps(state))


def test_the_home_can_be_moved(tmp_path: Path):
    assert OmlxHome.of({"OMLX_HOME": "/elsewhere"}, tmp_path).root == Path("/elsewhere")
    assert OmlxHome.of({"OMLX_HOME": ""}, tmp_path).root == tmp_path / ".omlx"


def test_a_running_server_is_found(home: OmlxHome):
    publish(home, os.getpid())
    state = read_server_state(home)
    assert state is not None
    assert state.url == "http://127.0.0.1:8010"


def test_a_server_whose_process_is_gone_is_none(home: OmlxHome):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    publish(home, ended.pid)
    assert read_server_state(home) is None


def test_no_state_file_is_no_server(home: OmlxHome):
    assert read_server_state(home) is None


def test_a_broken_state_file_is_reported_with_its_path(home: OmlxHome):
    write_private(home.server_state, "{")
    with pytest.raises(StateError, match=r"server\.json"):
        read_server_state(home)


def test_the_last_model_is_remembered_for_each_agent(home: OmlxHome):
    remember_model(home, "pi", "small")
    remember_model(home, "claude", "large")
    remember_model(home, "pi", "medium")
    assert read_last_models(home) == {"pi": "medium", "claude": "large"}


def test_an_unreadable_memory_is_written_anew(home: OmlxHome):
    write_private(home.last_models, "nonsense")
    assert read_last_models(home) == {}
    remember_model(home, "pi", "small")
    assert read_last_models(home) == {"pi": "small"}


def test_our_files_are_private_and_leave_nothing_beside_them(home: OmlxHome):
    write_private(home.last_models, "{}")
    assert home.last_models.stat().st_mode & 0o777 == 0o600
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert os.listdir(home.root) == ["last_models.json"]


def test_files_below_a_folder_are_found_by_pattern_and_no_folder_has_none(tmp_path: Path):
    (tmp_path / "agent/x").mkdir(parents=True)
    for name in ("agent/b.md", "agent/x/a.md", "agent/c.txt"):
        (tmp_path / name).touch()
    assert glob(tmp_path, "agent/**/*.md") == (tmp_path / "agent/b.md", tmp_path / "agent/x/a.md")
    assert glob(tmp_path / "none", "*") == ()
