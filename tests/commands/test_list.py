"""`omlx list`, as a user types it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from omlx.server.state_file import ServerState, published

from ..models.fake_hub import weights
from .conftest import Run


def test_models_broken_folders_and_stopped_downloads_are_listed(run: Run, home: Path):
    good, broken = home / "models" / "org" / "good", home / "models" / "broken"
    for folder in (good, broken):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 4096}')
    (good / "model.safetensors").write_bytes(weights(5000))
    (home / "models" / "org" / ".other.downloading").mkdir()
    listed = {each["id"]: each for each in json.loads(run("list", "--json").stdout)}
    assert (listed["org/good"]["context_window"], listed["org/good"]["problem"]) == (4096, None)
    assert "no model*.safetensors" in listed["broken"]["problem"]
    assert listed["org/other"]["problem"] == "a stopped download; `omlx pull org/other` goes on"
    shown = run("list").stdout.splitlines()
    assert shown[0].split() == ["MODEL", "SIZE", "WINDOW", "WEIGHTS", "ARCHITECTURE"]
    assert [line.split()[0] for line in shown[1:]] == ["broken", "org/good", "org/other"]


def test_what_a_models_config_says_steers_no_terminal(run: Run, home: Path):
    _model(home / "models" / "m")
    config = {"model_type": "llama\x1b[2J\nforged", "max_position_embeddings": 4096}
    (home / "models" / "m" / "config.json").write_text(json.dumps(config))
    for command in (["list"], ["inspect", "m"]):
        lines = run(*command).stdout.splitlines()
        assert [line for line in lines if "llama [2J forged" in line]
        assert [line for line in lines if not line.isprintable()] == []


def test_an_empty_home_says_how_to_get_a_model(run: Run):
    assert "omlx pull REPO" in run("list").stdout


def _model(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 4096}')
    (folder / "model.safetensors").write_bytes(weights(5000))


def test_what_only_the_running_server_looks_at_is_listed_and_marked(run: Run, home: Path, tmp_path: Path):
    _model(home / "models" / "mine")
    _model(tmp_path / "other" / "theirs")
    folders = (str(home / "models"), str(tmp_path / "other"))
    state = home / "run" / "server.json"
    with published(state, ServerState(os.getpid(), "127.0.0.1", 8000, "http://127.0.0.1:8000", "i", folders)):
        listed = json.loads(run("list", "--json").stdout)
        assert [(each["id"], each["of_running_server"]) for each in listed] == [("mine", False), ("theirs", True)]
        assert f"of the running server, in {tmp_path}/other/theirs" in run("list").stdout
        assert run("inspect", "theirs").exit_code == 0
    assert [each["id"] for each in json.loads(run("list", "--json").stdout)] == ["mine"]


def test_a_folder_that_is_named_is_looked_in_instead(run: Run, home: Path, tmp_path: Path):
    _model(home / "models" / "mine")
    _model(tmp_path / "other" / "theirs")
    named = ("--model-dir", str(tmp_path / "other"))
    assert [each["id"] for each in json.loads(run("list", *named, "--json").stdout)] == ["theirs"]
    assert json.loads(run("inspect", "theirs", *named, "--json").stdout)["path"] == str(tmp_path / "other" / "theirs")
    assert json.loads(run("inspect", str(tmp_path / "other" / "theirs"), "--json").stdout)["id"] == "theirs"
    assert run("rm", "theirs", *named, "--yes").exit_code == 0
    assert not (tmp_path / "other" / "theirs").exists()
    assert (home / "models" / "mine").is_dir()
