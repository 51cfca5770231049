"""Downloads over the admin API, against a hub on loopback."""

from __future__ import annotations

import asyncio
import fcntl
import html
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omlx.server.models.device_memory import DeviceMemory

from ...models.fake_hub import FakeHub, running_hub, weights
from ..serving import MODEL
from .admin_serving import Admin, admin_serving, log_in

BODY = {"repo": "org/model"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running_hub() as fake:
        config = b'{"model_type": "bert", "architectures": ["BertModel"]}'
        fake.files = {"config.json": config, "model.safetensors": weights(100_000)}
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        yield fake


def hold(hub: FakeHub) -> None:
    """Have the hub hold the second half of the weights back, until `release`."""
    hub.files["model.safetensors"] = weights(400_000)
    hub.held = threading.Event()


def release(hub: FakeHub) -> None:
    assert hub.held is not None
    hub.held.set()
    hub.held = None


async def halfway(admin: Admin, home: Path) -> Any:
    """The download once half of it lies on the disk."""
    work = home / "models" / "org" / ".model.downloading"
    async with asyncio.timeout(60):
        while not any(size_now(part) > 150_000 for part in work.glob("*.part-*")):
            await admin.get("downloads")
    return (await admin.get("downloads"))[0]


def size_now(file: Path) -> int:
    """In bytes; 0 once it has got its last name."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


async def ended(admin: Admin) -> Any:
    async with asyncio.timeout(60):
        while (download := (await admin.get("downloads"))[0])["state"] == "running":
            pass
    return download


async def test_a_download_comes_and_its_model_is_there(hub: FakeHub, tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        assert (await admin.post("downloads", BODY)).status_code == 202
        download = await ended(admin)
        assert (download["state"], download["error"]) == ("done", "")
        assert download["done_bytes"] == download["total_bytes"] > 100_000
        async with asyncio.timeout(60):
            while {model["id"] for model in await admin.get("models")} != {MODEL, "org/model"}:
                pass
    assert (tmp_path / "models" / "org" / "model" / "model.safetensors").is_file()
    assert hub.ranges("model.safetensors") != []


async def test_what_the_memory_cannot_hold_is_refused_unless_forced(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("omlx.server.serving.device_memory", lambda _: DeviceMemory(100_000, 75_000))
    async with admin_serving(tmp_path) as admin:
        await admin.post("downloads", BODY)
        download = await ended(admin)
        assert download["state"] == "failed"
        assert "its weights take 100.1 kB, and the server loads at most 75.0 kB" in download["error"]
        assert download["error"].endswith('or give "force": true')
        assert hub.ranges("model.safetensors") == []
        await admin.post("downloads", {**BODY, "force": True})
        assert (await ended(admin))["state"] == "done"
        assert [one["can_force"] for one in await admin.get("downloads")] == [False]


async def test_one_that_fails_as_nobody_foresaw_has_failed_and_goes_on(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object, **__: object) -> None:
        raise UnicodeError("label too long")

    async with admin_serving(tmp_path) as admin:
        with monkeypatch.context() as patch:
            patch.setattr("omlx.server.api.admin.downloads.pull", fail)
            await admin.post("downloads", BODY)
            failed = await ended(admin)
        await admin.post("downloads", BODY)
        assert (await ended(admin))["state"] == "done"
    assert (failed["state"], failed["error"]) == ("failed", "UnicodeError; the log says more")
    assert "the download of org/model failed" in caplog.text
    assert hub.ranges("model.safetensors") == ["bytes=0-"]


async def test_one_that_is_stopped_goes_on_where_it_was(hub: FakeHub, tmp_path: Path):
    hold(hub)
    async with admin_serving(tmp_path) as admin:
        await admin.post("downloads", {**BODY, "revision": hub.commit})
        running = await halfway(admin, tmp_path)
        assert (await admin.post("downloads", BODY)).status_code == 409
        await admin.delete("downloads/org/model")
        release(hub)
        stopped = await ended(admin)
        assert not (tmp_path / "models" / "org" / "model").exists()
        await admin.post("downloads", BODY)
        done = await ended(admin)
    assert (running["state"], stopped["state"], stopped["error"]) == ("running", "stopped", "")
    assert (done["state"], done["error"], done["done_bytes"]) == ("done", "", done["total_bytes"])
    first, again = hub.ranges("model.safetensors")
    assert first == "bytes=0-"
    assert int((again or "").removeprefix("bytes=").removesuffix("-")) > 150_000
    assert f"/api/models/org/model/revision/{hub.commit}" in {request[2] for request in hub.requests}
    assert {request[2] for request in hub.requests if "/revision/" in request[2]} == {
        f"/api/models/org/model/revision/{hub.commit}"
    }


async def test_one_that_is_cancelled_leaves_nothing(hub: FakeHub, tmp_path: Path):
    hold(hub)
    async with admin_serving(tmp_path) as admin:
        await admin.post("downloads", BODY)
        await halfway(admin, tmp_path)
        await admin.delete("downloads/org/model")
        release(hub)
        await ended(admin)
        left = [path.name for path in (tmp_path / "models" / "org").iterdir()]
        assert (await admin.delete("downloads/org/model")).json() == []
        assert (await admin.delete("downloads/org/model")).status_code == 404
    assert left == [".model.downloading"]
    assert list((tmp_path / "models" / "org").iterdir()) == []


async def test_one_that_an_earlier_server_left_is_there_and_goes_on(hub: FakeHub, tmp_path: Path):
    hold(hub)
    (tmp_path / "earlier").mkdir()
    async with admin_serving(tmp_path / "earlier") as admin:
        await admin.post("downloads", {**BODY, "revision": hub.commit})
        await halfway(admin, tmp_path / "earlier")
        await admin.delete("downloads/org/model")
        release(hub)
        await ended(admin)
    left = tmp_path / "models" / "org"
    left.mkdir(parents=True)
    (tmp_path / "earlier" / "models" / "org" / ".model.downloading").rename(left / ".model.downloading")
    async with admin_serving(tmp_path) as admin:
        (before,) = await admin.get("downloads")
        page = (await (await log_in(admin)).get("/admin/models")).text
        await admin.post("downloads", BODY)
        assert (await ended(admin))["state"] == "done"
    assert (before["repo"], before["state"]) == ("org/model", "stopped")
    assert before["done_bytes"] > 150_000
    assert 'id="resume-1"' in page
    asked = {request[2] for request in hub.requests if request[2].startswith("/api/models/")}
    assert asked == {f"/api/models/org/model/revision/{hub.commit}"}
    assert (hub.ranges("model.safetensors")[-1] or "").startswith("bytes=")


async def test_one_that_another_process_goes_on_with_is_not_discarded(tmp_path: Path):
    work = tmp_path / "models" / "org" / ".model.downloading"
    work.mkdir(parents=True)
    descriptor = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        async with admin_serving(tmp_path) as admin:
            refused = await admin.delete("downloads/org/model")
            (left,) = await admin.get("downloads")
    finally:
        os.close(descriptor)
    assert refused.status_code == 409
    assert refused.json()["error"]["message"] == "model is being downloaded by another process; wait for it"
    assert (left["repo"], left["state"]) == ("org/model", "stopped")
    assert work.is_dir()


@pytest.mark.parametrize("repo", ["../x", "model", "a/b/c", ""])
async def test_what_names_no_repository_is_refused_at_once(hub: FakeHub, tmp_path: Path, repo: str):
    async with admin_serving(tmp_path) as admin:
        refused = await admin.post("downloads", {"repo": repo})
        assert await admin.get("downloads") == []
    assert refused.status_code == 400
    assert "names no repository" in refused.json()["error"]["message"]
    assert hub.requests == []


async def test_the_page_offers_to_have_one_too_large_all_the_same(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("omlx.server.serving.device_memory", lambda _: DeviceMemory(100_000, 75_000))
    async with admin_serving(tmp_path) as admin:
        await admin.post("downloads", BODY)
        refused = await ended(admin)
        page = (await (await log_in(admin)).get("/admin/models")).text
    assert (refused["can_force"], hub.ranges("model.safetensors")) == (True, [])
    offered = re.search(r"id=\"force-1\" data-api=\"POST downloads\" data-body='([^']*)'", page)
    assert offered is not None
    assert json.loads(html.unescape(offered[1])) == {**BODY, "force": True}
