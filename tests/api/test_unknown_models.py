"""A model that is asked for and not known: it is looked for at once, and one that cannot be used is told with why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from omlx.server.models import folder_watch
from omlx.server.models.hub import REQUEST_FILE

from ..text_model import build_text_model
from .serving import MODEL, serving
from .test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY

PATHS = [
    (CHAT, CHAT_BODY),
    ("/v1/completions", {"prompt": "x"}),
    ("/v1/responses", {"input": "x"}),
    (MESSAGES, MESSAGES_BODY),
    (f"{MESSAGES}/count_tokens", MESSAGES_BODY),
    ("/v1/embeddings", {"input": "x"}),
    ("/v1/rerank", {"query": "x", "documents": ["x"]}),
    ("/v1/launches", {"agent": "pi"}),
]
HEADERS = {"authorization": "Bearer a-key"}


@pytest.fixture(autouse=True)
def _only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_watch, "_FOLLOW_SECONDS", 3600.0)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Path]]:
    """A call for each time that the folders were looked at."""
    made: list[Sequence[Path]] = []
    find = folder_watch.model_folders

    def counted(folders: Sequence[Path], *, quiet: bool) -> list[tuple[str, Path]]:
        made.append(folders)
        return find(folders, quiet=quiet)

    monkeypatch.setattr(folder_watch, "model_folders", counted)
    return made


def broken(folder: Path, model_type: str = "llama") -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


async def test_a_model_that_came_just_now_answers_the_first_request_for_it(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        build_text_model(tmp_path / "models" / "new", 4096)
        answer = await server.client.post(CHAT, json={**CHAT_BODY, "model": "new"})
        assert answer.json()["choices"][0]["message"]["content"] == "Hi."


async def test_a_model_that_cannot_be_used_is_told_with_the_reason_wherever_it_is_asked_for(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        broken(tmp_path / "models" / "broken")
        server.model_settings.change("broken", {"alias": "coder"})
        for name in ("broken", "coder"):
            for path, body in PATHS:
                response = await server.client.post(path, json={**body, "model": name}, headers=HEADERS)
                error = response.json()["error"]
                assert (response.status_code, error["type"]) == (400, "invalid_request_error"), (path, error)
                assert f"{tmp_path}/models/broken: no model*.safetensors in it; mend the folder" in error["message"]
            assert "no model*.safetensors in it" in (await server.client.get(f"/v1/models/{name}")).text


async def test_a_model_of_a_kind_that_is_not_served_and_one_that_is_not_all_here_are_told_so(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        build_text_model(tmp_path / "models" / "seer", 4096)
        config = tmp_path / "models" / "seer" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"vision_config": {}}))
        work = tmp_path / "models" / "org" / ".half.downloading"
        work.mkdir(parents=True)
        (work / REQUEST_FILE).write_text('{"repo": "org/half", "revision": "v1"}')
        seer = await server.client.post(CHAT, json={**CHAT_BODY, "model": "seer"})
        half = await server.client.post(CHAT, json={**CHAT_BODY, "model": "org/half"})
    assert (seer.status_code, half.status_code) == (400, 400)
    assert "seer: is of kind vlm, which is not served; choose another model" in seer.json()["error"]["message"]
    assert "`omlx pull org/half --revision v1` goes on with it" in half.json()["error"]["message"]


async def test_names_that_nothing_has_bring_about_one_look_in_a_while(
    tmp_path: Path, looks: list[Sequence[Path]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(folder_watch, "_ASKED_SECONDS", 3600.0)
    async with serving(tmp_path, "Hi.") as server:
        assert (await server.client.post(CHAT, json=CHAT_BODY)).status_code == 200
        assert len(looks) == 1
        for number in range(20):
            answer = await server.client.post(CHAT, json={**CHAT_BODY, "model": f"nobody-{number}"})
            assert answer.status_code == 404
            assert f"Available models: {MODEL}" in answer.json()["error"]["message"]
        assert len(looks) == 2


async def test_a_folder_that_does_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_watch, "_ASKED_SECONDS", 0.0)
    read: list[str] = []
    entry_of = folder_watch.read_entry
    monkeypatch.setattr(folder_watch, "read_entry", lambda path, name: (read.append(name), entry_of(path, name))[1])
    async with serving(tmp_path, "Hi.") as server:
        broken(tmp_path / "models" / "broken")
        for _ in range(3):
            assert (await server.client.get("/v1/models/broken")).status_code == 400
        assert read == ["broken"]
        (tmp_path / "models" / "broken" / "more").write_text("")
        await server.client.get("/v1/models/broken")
        assert read == ["broken", "broken"]
