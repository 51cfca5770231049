"""A model that answers nobody, and a cache that is not kept, are told in words on the pages that one looks at first."""

from __future__ import annotations

import html
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omlx.server.api.admin import status
from omlx.server.api.admin.status import Trouble, troubles
from omlx.server.engine.messages import EngineStats

from ...waiting import until
from ..serving import MODEL
from ..test_engine_crash import crash, new_engine
from ..test_server import CHAT, CHAT_BODY
from .admin_serving import admin_serving, log_in

FAILED = f"{MODEL} was stopped: its engine died 3 times in a row"


async def test_a_model_that_was_stopped_is_told_of_until_it_is_loaded_again(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        browser = await log_in(admin)
        (await browser.post(CHAT, json=CHAT_BODY)).raise_for_status()
        for _ in range(2):
            await new_engine(admin.server, crash(admin.server))
            await until(lambda: not admin.server.pool.engines[MODEL].is_loading)
        crash(admin.server)
        await until(lambda: FAILED in admin.server.pool.failed.get(MODEL, ""))
        for page in ("", "/parts/status", f"/models/{MODEL}"):
            assert FAILED in html.unescape((await browser.get(f"/admin{page}")).text), page
        (await admin.put(f"loaded/{MODEL}")).raise_for_status()
        await until(lambda: MODEL in admin.server.pool.engines and not admin.server.pool.engines[MODEL].is_loading)
        assert FAILED not in html.unescape((await browser.get("/admin")).text)


def test_a_disk_that_keeps_no_prefixes_is_trouble_and_a_model_that_is_loaded_again_is_none():
    engines = {
        "kept": SimpleNamespace(is_loading=False, stats=EngineStats()),
        "lost": SimpleNamespace(is_loading=False, stats=EngineStats(cache_trouble="full")),
        "again": SimpleNamespace(is_loading=True, stats=EngineStats()),
    }
    pool: Any = SimpleNamespace(engines=engines, failed={"again": "killed", "gone": "killed"})
    assert troubles(pool) == [Trouble("gone", "killed"), Trouble("lost", "full", is_disk=True)]


async def test_what_a_trouble_says_is_text_and_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(status, "troubles", lambda _: [Trouble(MODEL, "the disk of <there> is full", True)])
    async with admin_serving(tmp_path) as admin:
        page = (await (await log_in(admin)).get("/admin/parts/status")).text
    assert "the disk of &lt;there&gt; is full" in page
