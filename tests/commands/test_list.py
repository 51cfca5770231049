"""`omlx list`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_an_empty_home_says_how_to_get_a_model(run: Run):
    assert "omlx pull REPO" in run("list").stdout
