"""`omlx pull` and `omlx rm`, as a user types them, against a hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from omlx.server.errors import ModelError, ModelNotFound
from omlx.server.models.device_memory import DeviceMemory

from ..models.fake_hub import COMMIT, FakeHub, running_hub, weights
from .conftest import Run


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    assert not home.exists()
    with running_hub() as fake:
        fake.files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": weights(100_000)}
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        yield fake


def test_a_model_comes_and_goes(hub: FakeHub, run: Run, home: Path):
    assert hub.files
    pulled = run("pull", "org/model")
    assert pulled.stdout == f"Downloaded org/model, 100.1 kB, commit c0ffee0, in {home}/models/org/model\n"
    assert "100%  100.1 kB of 100.1 kB, 2 of 2 files" in pulled.stderr
    again = json.loads(run("pull", "org/model", "--json").stdout)
    assert (again["commit"], again["is_new"]) == (COMMIT, False)
    removed = json.loads(run("rm", "org/model", "--yes", "--json").stdout)
    assert removed["model"] == "org/model"
    assert list((home / "models").iterdir()) == []
    with pytest.raises(ModelNotFound):
        run("rm", "org/model", "--yes")


def test_nothing_is_removed_where_nobody_agrees(hub: FakeHub, run: Run, home: Path):
    assert hub.files
    run("pull", "org/model")
    with pytest.raises(ModelError, match="give --yes"):
        run("rm", "org/model")
    assert (home / "models" / "org" / "model" / "config.json").is_file()


def test_a_link_goes_and_what_it_names_stays(run: Run, home: Path, tmp_path: Path):
    real = tmp_path / "elsewhere"
    real.mkdir()
    (real / "config.json").write_text("{}")
    (home / "models").mkdir(parents=True)
    (home / "models" / "linked").symlink_to(real)
    assert run("rm", "linked", "--yes").stdout == "Removed linked, 0 B\n"
    assert (real / "config.json").is_file()
    assert (home / "models").is_dir()


def test_a_model_too_large_for_the_memory_wants_force(hub: FakeHub, run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("omlx.server.commands.pull.device_memory", lambda _: DeviceMemory(100_000, 75_000))
    with pytest.raises(ModelError, match=r"its weights take 100\.1 kB, .*--force"):
        run("pull", "org/model")
    assert hub.ranges("model.safetensors") == []
    assert run("pull", "org/model", "--force").exit_code == 0


def test_what_a_stopped_download_left_can_be_removed(hub: FakeHub, run: Run, home: Path):
    work = home / "models" / "org" / ".model.downloading"
    work.mkdir(parents=True)
    (work / "model.safetensors.part-1").write_bytes(b"x")
    assert hub.files
    assert run("rm", "org/model", "--yes").stdout == "Removed the stopped download of org/model\n"
    assert not work.exists()


def test_a_wrong_option_of_serve_is_wrong_usage(run: Run):
    done = run("serve", "--port", "abc")
    assert (done.exit_code, "server.port is 'abc': expected a whole number" in done.stderr) == (2, True)
