"""`omlx import`: into the folder where the server looks, with progress on the other stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..models.small_gguf import SmallLlama
from .conftest import Run


def test_the_model_arrives_where_the_server_looks_first(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    SmallLlama().write(tmp_path / "small.gguf")
    monkeypatch.setenv("OMLX_MODEL_DIRS", str(tmp_path / "chosen"))
    done = run("import", str(tmp_path / "small.gguf"), "--json")
    assert json.loads(done.stdout) == {"model": "small", "path": str(tmp_path / "chosen" / "small")}
    assert "100%" in done.stderr
    assert [model["id"] for model in json.loads(run("list", "--json").stdout)] == ["small"]
