"""The models over the admin API: a change holds from the next request on, with no restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from omlx.server.app import create_app
from omlx.server.errors import ShuttingDown
from omlx.server.http_server import HttpServer
from omlx.server.models.catalog import ModelKind
from omlx.server.models.hub import SOURCE_FILE
from omlx.server.serving import find_models, listen, make_pool, mlx_engine_command
from omlx.server.settings import ServeSettings
from omlx.server.settings.model_store import ModelSettingsStore

from ...models.test_mtp import REASONS, write_tensors
from ...text_model import build_text_model
from ...tiny_model import Shape, build_tiny_model, needs_embedded_model
from ..serving import MODEL
from .admin_serving import ADMIN_KEY, admin_serving, write_keys

CHAT = "/v1/chat/completions"


async def test_a_model_says_what_it_is_and_why_it_cannot_draft(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        (listed,) = await admin.get("models")
        model = await admin.get(f"models/{MODEL}")
    assert listed == model
    assert (model["id"], model["state"], model["is_ours"]) == (MODEL, "unloaded", True)
    assert model["declared_context_window"] == model["context_window"] == 4096
    assert model["mtp_compatible"] is False
    assert model["mtp_compatibility_reason"]


@pytest.mark.parametrize(("config", "names", "reason"), REASONS, ids=["declared and missing", "a drafter"])
async def test_the_reason_why_it_cannot_draft_is_that_of_its_tensors(
    config: dict[str, Any], names: list[str], reason: str, tmp_path: Path
):
    def build(folder: Path, window: int) -> Tokenizer:
        tokenizer = build_text_model(folder, window)
        (folder / "model.safetensors").unlink()
        write_tensors(folder, config, names)
        return tokenizer

    async with admin_serving(tmp_path, build=build) as admin:
        (model,) = await admin.get("models")
    assert model["mtp_compatible"] is False
    assert model["mtp_compatibility_reason"].startswith(reason)


async def test_the_window_in_force_stands_beside_the_one_declared(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        (entry,) = admin.server.pool.entries
        admin.server.pool.replace_entries([replace(entry, context_window=2048, declared_window=4096)])
        cut = await admin.get(f"models/{MODEL}")
        chosen = (await admin.put(f"models/{MODEL}", {"max_context_window": 3000})).json()
    windows = [(model["context_window"], model["declared_context_window"]) for model in (cut, chosen)]
    assert windows == [(2048, 4096), (3000, 4096)]


async def test_a_model_is_loaded_and_unloaded_when_asked(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        assert (await admin.put(f"loaded/{MODEL}")).status_code == 202
        await admin.server.pool.engines[MODEL].ready()
        assert (await admin.get(f"models/{MODEL}"))["state"] == "loaded"
        assert (await admin.delete(f"loaded/{MODEL}")).json()["state"] == "unloaded"
        assert list(admin.server.pool.engines) == []


async def test_a_model_that_answers_is_not_unloaded_under_its_request(tmp_path: Path):
    async with admin_serving(tmp_path, "x" * 500, step_seconds=0.05) as admin:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with admin.http.stream("POST", CHAT, json=body) as stream:
            assert stream.status_code == 200
            refused = await admin.delete(f"loaded/{MODEL}")
    assert refused.status_code == 409
    assert "answers 1 requests" in refused.json()["error"]["message"]


async def test_one_put_sets_several_settings_and_null_unsets(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        changed = (await admin.put(f"models/{MODEL}", {"alias": "coder", "pin": True, "temperature": 0.5})).json()
        assert (changed["settings"]["alias"], changed["settings"]["pin"]) == ("coder", True)
        assert (await admin.get("models/coder"))["id"] == MODEL
        unset = (await admin.put("models/coder", {"alias": None, "temperature": None})).json()
    assert (unset["settings"]["alias"], unset["settings"]["temperature"], unset["settings"]["pin"]) == (
        None,
        None,
        True,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_context_windw": 5}, "did you mean models.tiny.max_context_window?"),
        ({"max_context_window": "big"}, "max_context_window is 'big'"),
        ({"pin": True, "top_p": 7}, "top_p is 7"),
    ],
)
async def test_a_wrong_setting_is_named_and_nothing_is_changed(tmp_path: Path, change: dict, words: str):
    async with admin_serving(tmp_path) as admin:
        refused = await admin.put(f"models/{MODEL}", change)
        assert refused.status_code == 400
        assert words in refused.json()["error"]["message"]
        assert (await admin.get(f"models/{MODEL}"))["settings"]["pin"] is False


async def test_a_name_that_would_do_nothing_is_refused_with_the_reason(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        (entry,) = admin.server.pool.entries
        small, encoder = replace(entry, id="small"), replace(entry, id="bert", kind=ModelKind.EMBEDDING)
        admin.server.pool.replace_entries([entry, small, encoder])
        refused = {
            name: (await admin.put(f"models/{MODEL}", {"draft_model": name})).json()["error"]["message"]
            for name in ("smal", MODEL, "bert")
        }
        taken = await admin.put(f"models/{MODEL}", {"alias": "small"})
        for_an_encoder = await admin.put("models/bert", {"draft_model": "small"})
        nothing = await admin.get(f"models/{MODEL}")
        accepted = (await admin.put(f"models/{MODEL}", {"draft_model": "small", "alias": MODEL})).json()
        await admin.put("models/small", {"alias": "draft"})
        by_alias = await admin.put(f"models/{MODEL}", {"draft_model": "draft"})
    assert "did you mean small?" in refused["smal"]
    assert "does not draft for itself" in refused[MODEL]
    assert "encoders write no text" in refused["bert"]
    assert (taken.status_code, for_an_encoder.status_code, by_alias.status_code) == (409, 400, 200)
    assert "'small' is another model's name" in taken.json()["error"]["message"]
    assert (nothing["settings"]["draft_model"], nothing["settings"]["alias"]) == (None, None)
    assert accepted["settings"]["draft_model"] == "small"


async def test_a_deleted_model_is_gone_from_disk_and_from_the_list(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        assert (await admin.delete(f"models/{MODEL}")).json() == {"deleted": MODEL}
        assert await admin.get("models") == []
    assert not (tmp_path / "models" / MODEL).exists()


async def test_a_model_outside_our_folder_is_not_deleted(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        folder = tmp_path / "models" / MODEL
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        refused = await admin.delete(f"models/{MODEL}")
    assert refused.status_code == 409
    assert (tmp_path / "elsewhere" / "config.json").is_file()


async def test_a_model_that_omlx_downloaded_may_be_deleted_wherever_it_lies(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        (entry,) = admin.server.pool.entries
        elsewhere = tmp_path / "elsewhere" / MODEL
        elsewhere.parent.mkdir()
        entry.path.rename(elsewhere)
        admin.server.pool.replace_entries([replace(entry, path=elsewhere)])
        assert (await admin.get(f"models/{MODEL}"))["is_ours"] is False
        (elsewhere / SOURCE_FILE).write_text('{"repo": "org/tiny", "commit": "c0ffee", "files": {}}')
        assert (await admin.get(f"models/{MODEL}"))["is_ours"] is True
        (await admin.delete(f"models/{MODEL}")).raise_for_status()
    assert not elsewhere.exists()


@pytest.mark.parametrize("model_id", ["nothing", "..", "%2e%2e", "../../etc"])
async def test_only_models_that_are_there_are_found(tmp_path: Path, model_id: str):
    async with admin_serving(tmp_path) as admin:
        assert (await admin.http.delete(f"/admin/api/models/{model_id}")).status_code in (404, 405)


@asynccontextmanager
async def real_engine(home: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A server with MLX on the tiny random model; the client holds the admin key."""
    write_keys(home, ("admin", "admin", ADMIN_KEY))
    settings = ServeSettings(home=home, model_dirs=(home / "models",), port=0, shutdown_grace_seconds=0.2)
    store = ModelSettingsStore(settings.settings_file)
    pool = make_pool(find_models(settings), mlx_engine_command(settings), store)
    app = create_app(settings, pool, "an-instance", store)
    http = HttpServer(app, pool.drain, lambda: pool.fail_requests(ShuttingDown("shutting down")), 0.2)
    listener = listen("127.0.0.1", 0)
    running = asyncio.create_task(http.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=300) as it:
            yield it
    finally:
        http.should_exit = True
        await running


@needs_embedded_model
async def test_forty_thousand_tokens_are_refused_at_a_small_window_and_answered_after_one_put(tmp_path: Path):
    build_tiny_model(tmp_path / "models" / "random", shape=Shape(layers=1, heads=1, kv_heads=1))
    prompt = {"model": "random", "prompt": [1000 + n % 5000 for n in range(40_000)], "max_tokens": 1}
    async with real_engine(tmp_path) as http:
        await http.put("/admin/api/models/random", json={"max_context_window": 32768})
        refused = await http.post("/v1/completions", json=prompt)
        changed = await http.put("/admin/api/models/random", json={"max_context_window": 131072})
        accepted = await http.post("/v1/completions", json=prompt)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert changed.json()["context_window"] == 131072
    assert accepted.status_code == 200, accepted.text
    assert accepted.json()["usage"]["prompt_tokens"] == 40_000
