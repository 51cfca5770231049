"""`omlx cache clear` takes what is ours, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omlx.server.errors import SettingsError
from omlx.server.state_file import ServerState, published

from .conftest import Run


def put_prefix(folder: Path) -> Path:
    file = folder / ("ab" * 16) / f"{'0' * 64}.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    return file


@contextmanager
def running_with(home: Path, cache_folder: Path) -> Iterator[None]:
    state = ServerState(os.getpid(), "127.0.0.1", 1, "http://127.0.0.1:1", "ours", (), str(cache_folder))
    with published(home / "run" / "server.json", state):
        yield


def test_cached_prefixes_and_openings_go_and_everything_else_stays(run: Run, home: Path):
    mine = [
        home / "cache" / ("ab" * 16) / f"{'0' * 64}.safetensors",
        home / "cache" / ("cd" * 16) / f"{'0' * 64}.123.part",
        home / "cache" / "rank1of2" / ("cd" * 16) / f"{'0' * 64}.safetensors",
        home / "openings" / "claude" / "tiny",
    ]
    others = [
        home / "cache" / "model.safetensors",
        home / "cache" / "my-model" / "model.safetensors",
        home / "cache" / ("ab" * 16) / "model.safetensors",
        home / "cache" / ("ab" * 16) / "notes.txt",
        home / "models" / "tiny" / "model.safetensors",
    ]
    for file in [*mine, *others]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    assert run("cache", "clear").stdout == f"Removed 4 files of {home}/cache, 20 B\n"
    assert [file for file in mine if file.exists()] == []
    assert [file for file in others if not file.exists()] == []
    assert json.loads(run("cache", "clear", "--json").stdout)["num_files"] == 0


def test_without_a_cache_there_is_nothing_to_clear(run: Run, home: Path):
    assert run("cache", "clear").stdout == f"Removed 0 files of {home}/cache, 0 B\n"


def test_the_folder_is_the_running_servers_and_the_settings_own_is_told_of(run: Run, home: Path, tmp_path: Path):
    served, configured = put_prefix(tmp_path / "served"), put_prefix(home / "cache")
    with running_with(home, tmp_path / "served"):
        said = run("cache", "clear").stdout.splitlines()
        assert (served.exists(), configured.exists()) == (False, True)
        assert said[0] == f"Removed 1 files of {tmp_path}/served, 5 B"
        assert f"`omlx cache clear --cache-folder {home}/cache` removes them" in said[1]
        assert json.loads(run("cache", "clear", "--json").stdout)["server_folder"] == f"{tmp_path}/served"


def test_a_folder_that_is_named_is_cleared_alone_and_the_servers_is_told_of(run: Run, home: Path, tmp_path: Path):
    served, named = put_prefix(tmp_path / "served"), put_prefix(tmp_path / "named")
    opening = home / "openings" / "claude" / "tiny"
    opening.parent.mkdir(parents=True)
    opening.write_bytes(b"12345")
    with running_with(home, tmp_path / "served"):
        said = run("cache", "clear", "--cache-folder", str(tmp_path / "named")).stdout.splitlines()
    assert (served.exists(), named.exists(), opening.exists()) == (True, False, True)
    assert said[1] == f"The running server uses {tmp_path}/served; `omlx cache clear` clears that"


@pytest.mark.parametrize("below", ["", "inner"])
def test_a_file_in_the_folders_place_is_refused_with_the_remedy(run: Run, tmp_path: Path, below: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SettingsError, match=r"file is no folder; move it away, or .*omlx config set cache.folder FOLDER"
    ):
        run("cache", "clear", "--cache-folder", str(tmp_path / "file" / below))


def test_a_folder_that_is_not_there_is_no_folder_that_was_cleared(run: Run, home: Path, tmp_path: Path):
    with pytest.raises(
        SettingsError, match=rf"there is no folder {tmp_path}/typo; without --cache-folder, {home}/cache"
    ):
        run("cache", "clear", "--cache-folder", str(tmp_path / "typo"))
