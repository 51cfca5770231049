"""Models that come and go while the server runs, by whosever hand."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from omlx.server.models import folder_watch

from ..text_model import build_text_model
from ..waiting import until
from .serving import MODEL, Serving, serving
from .test_server import CHAT, CHAT_BODY


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_watch, "_FOLLOW_SECONDS", 0.01)


async def listed(server: Serving) -> list[str]:
    answer = await server.client.get("/v1/models")
    assert answer.status_code == 200
    return [model["id"] for model in answer.json()["data"]]


async def until_listed(server: Serving, *names: str) -> None:
    for _ in range(1000):
        if await listed(server) == sorted(names):
            return
    raise AssertionError(f"{await listed(server)} instead of {names}")


async def test_a_model_is_served_once_its_folder_is_there_and_no_more_once_it_is_gone(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        (folder,) = {entry.path.parent for entry in server.pool.entries}
        assert await listed(server) == [MODEL]
        build_text_model(folder / "new", 1000)
        await until_listed(server, MODEL, "new")
        answer = await server.client.post(CHAT, json={**CHAT_BODY, "model": "new"})
        assert answer.json()["choices"][0]["message"]["content"] == "Hi."
        await server.pool.unload("new")
        shutil.rmtree(folder / "new")
        await until_listed(server, MODEL)
        assert (await server.client.post(CHAT, json={**CHAT_BODY, "model": "new"})).status_code == 404


async def test_a_folder_that_cannot_be_a_model_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "models" / "bad\nname").mkdir(parents=True)
    looks: list[Sequence[Path]] = []
    find = folder_watch.model_folders

    def counted(folders: Sequence[Path], *, quiet: bool) -> list[tuple[str, Path]]:
        looks.append(folders)
        return find(folders, quiet=quiet)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_watch, "model_folders", counted)
        async with serving(tmp_path, "Hi."):
            await until(lambda: len(looks) > 3)
    assert [record.levelname for record in caplog.records if "cannot be printed" in record.getMessage()] == ["WARNING"]


async def test_a_model_that_comes_right_after_the_start_is_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    find = folder_watch.model_folders

    def find_slowly(folders: Sequence[Path], *, quiet: bool) -> list[tuple[str, Path]]:
        time.sleep(0.3)
        return find(folders, quiet=quiet)

    monkeypatch.setattr(folder_watch, "model_folders", find_slowly)
    async with serving(tmp_path, "Hi.") as server:
        (folder,) = {entry.path.parent for entry in server.pool.entries}
        assert await listed(server) == [MODEL]
        build_text_model(folder / "new", 1000)
        await until_listed(server, MODEL, "new")


async def test_a_loaded_model_answers_on_until_it_is_unloaded(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        (entry,) = server.pool.entries
        assert (await server.client.post(CHAT, json=CHAT_BODY)).status_code == 200
        shutil.rmtree(entry.path)
        for _ in range(20):
            assert await listed(server) == [MODEL]
        assert (await server.client.post(CHAT, json=CHAT_BODY)).status_code == 200
        await server.pool.unload(MODEL)
        await until_listed(server)


async def test_a_model_whose_weights_come_after_its_config_is_served_once_they_are_there(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        (folder,) = {entry.path.parent for entry in server.pool.entries}
        build_text_model(tmp_path / "copied", 1000)
        (folder / "new").mkdir()
        shutil.copy2(tmp_path / "copied" / "config.json", folder / "new")
        async with asyncio.timeout(60):
            while "no model*.safetensors in it" not in (await server.client.get("/v1/models/new")).text:
                pass
        shutil.copytree(tmp_path / "copied", folder / "new", dirs_exist_ok=True)
        await until_listed(server, MODEL, "new")
