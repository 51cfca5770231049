"""Downloads over the admin API, against a hub on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omlx.server.models.device_memory import DeviceMemory

from ...models.fake_hub import FakeHub, running_hub, weights
from ..serving import MODEL
from .admin_serving import Admin, admin_serving

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


async def ended(admin: Admin) -> Any:
    async with asyncio.timeout(20):
        while (download := (await admin.get("downloads"))[0])["state"] == "running":
            pass
    return download


async def test_a_download_comes_and_its_model_is_there(hub: FakeHub, tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        assert (await admin.post("downloads", BODY)).status_code == 202
        download = await ended(admin)
        assert (download["state"], download["error"]) == ("done", "")
        assert download["done_bytes"] == download["total_bytes"] > 100_000
        async with asyncio.timeout(20):
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
