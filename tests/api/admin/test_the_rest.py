"""Status, log, settings, keys and checks over the admin API."""

from __future__ import annotations

import hashlib
import html
import json
import logging
import re
from datetime import date
from pathlib import Path

import pytest

from omlx.server.api.admin.openapi import add_admin
from omlx.server.api.openapi_document import document
from omlx.server.cache.write_ledger import spend
from omlx.server.errors import EngineFailure
from omlx.server.log_ring import LogRing
from omlx.server.settings.keys import keys, model_keys
from omlx.server.state_file import published

from ..serving import MODEL
from .admin_serving import ADMIN_KEY, INFERENCE_KEY, admin_serving, log_in, state_of, write_keys

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


async def test_a_request_is_seen_while_it_runs_and_when_it_has_ended(tmp_path: Path):
    async with admin_serving(tmp_path, "x" * 500, step_seconds=0.05) as admin:
        headers = {"user-agent": "claude-cli/2.1.330 (external, cli)"}
        chat = "/v1/chat/completions"
        async with admin.http.stream("POST", chat, json={**BODY, "stream": True}, headers=headers) as stream:
            lines = stream.aiter_lines()
            while '"content":"x' not in await anext(lines):
                pass  # the first event says only that it was admitted
            (live,) = (await admin.get("requests"))["live"]
            status = await admin.get("status")
        requests = await admin.get("requests")
        while requests["live"]:
            requests = await admin.get("requests")
        (agent,) = await admin.get("agents")
    assert (live["agent"], live["model"], live["phase"]) == ("claude", MODEL, "decode")
    assert live["num_computed_tokens"] == live["num_prompt_tokens"] > 0
    assert status["num_running"] == 1
    assert [(one["outcome"], one["cause"]) for one in requests["ended"]] == [("abort", "client_left")]
    assert agent["name"] == "claude"


async def test_the_log_is_read_from_where_one_was_and_by_level(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    async with admin_serving(tmp_path) as admin:
        await admin.post("chat", BODY)
        lines = await admin.get("logs")
        logging.getLogger("omlx.test").error("something %s", "broke")
        after = await admin.get("logs", after=lines[-1]["number"], level="ERROR")
        wrong = [
            (await admin.http.get("/admin/api/logs", params=params)).status_code
            for params in ({"level": "LOUD"}, {"after": "-1"}, {"after": "9" * 20})
        ]
    assert any("agent=chat model=tiny outcome=stop" in line["message"] for line in lines)
    assert [line["message"] for line in after] == ["something broke"]
    assert wrong == [400, 400, 400]


def test_the_ring_keeps_a_traceback_and_not_more_than_its_length():
    ring = LogRing()
    logger = logging.getLogger("omlx.ring")
    logger.setLevel(logging.INFO)
    with ring.attached():
        try:
            raise EngineFailure("x" * 9000)
        except EngineFailure:
            logger.exception("it failed")
    (line,) = ring.lines()
    assert line.message.startswith("it failed\nTraceback")
    assert len(line.message) == 4000


async def test_a_setting_shows_its_origin_and_what_a_restart_will_change(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        changed = await admin.put("settings", {"engine.max_num_seqs": 4})
        port = {setting["name"]: setting for setting in changed.json()}["engine.max_num_seqs"]
        kept = json.loads((tmp_path / "settings.json").read_text())
        unset = {
            setting["name"]: setting for setting in (await admin.put("settings", {"engine.max_num_seqs": None})).json()
        }
        refused = await admin.put("settings", {"server.prt": 1})
        a_models = await admin.put("settings", {"models.tiny.pin": True})
    assert (port["value"], port["origin"], port["file_value"], port["needs_restart"]) == (16, "default", 4, True)
    assert kept["engine"] == {"max_num_seqs": 4}
    assert unset["engine.max_num_seqs"]["needs_restart"] is False
    assert "did you mean server.port?" in refused.json()["error"]["message"]
    assert "/admin/api/models" in a_models.json()["error"]["message"]


def test_the_document_says_which_settings_can_be_put():
    made = document(["m"], "1", asks_for_key=False)
    add_admin(made)
    schema = made["components"]["schemas"]["Admin.SettingChanges"]
    assert set(schema["properties"]) == {key.name for key in keys()}
    assert schema["additionalProperties"] is False
    port = schema["properties"]["server.port"]["anyOf"]
    assert {"type": "null"} in port
    assert [each["maximum"] for each in port if "maximum" in each] == [65535]
    models = made["components"]["schemas"]["Admin.ModelChanges"]
    assert set(models["properties"]) == {key.path[-1] for key in model_keys("m")}
    assert models["additionalProperties"] is False
    assert all({"type": "null"} in each["anyOf"] for each in models["properties"].values())


def test_the_document_says_that_the_pages_chat_is_chat_completions():
    made = document(["m"], "1", asks_for_key=False)
    add_admin(made)
    own, public = (made["paths"][path]["post"] for path in ("/admin/api/chat", "/v1/chat/completions"))
    assert own["requestBody"] == public["requestBody"]
    assert own["responses"]["200"] == public["responses"]["200"]


async def test_keys_are_listed_by_their_last_characters_and_ended(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        write_keys(tmp_path, ("admin", "admin", ADMIN_KEY), ("claude", "", INFERENCE_KEY))
        listed = (await admin.http.get("/admin/api/keys")).text
        left = (await admin.delete("keys/claude")).json()
        unknown = await admin.delete("keys/nobody")
        own_end = await admin.delete("keys/admin")
        assert [key["name"] for key in await admin.get("keys")] == ["admin"]
    assert ADMIN_KEY not in listed
    assert INFERENCE_KEY not in listed
    assert [(key["name"], key["last4"]) for key in json.loads(listed)] == [("admin", "-own"), ("claude", "ents")]
    own = hashlib.sha256(INFERENCE_KEY.encode()).hexdigest()
    assert json.loads(listed)[1]["fingerprint"] == own[:12]
    assert own not in listed
    assert [key["name"] for key in left] == ["admin"]
    assert unknown.status_code == 404
    assert own_end.status_code == 409
    assert "`omlx key admin`" in own_end.json()["error"]["message"]


async def test_the_cache_says_what_it_holds(tmp_path: Path):
    folder = tmp_path / "cache" / ("ab" * 16)
    folder.mkdir(parents=True)
    (folder / f"{'0' * 64}.safetensors").write_bytes(b"x" * 1000)
    spend(tmp_path / "cache", 3 * 10**12, date(2026, 1, 1))
    async with admin_serving(tmp_path) as admin:
        await admin.post("chat", BODY)
        await admin.post("chat", BODY)
        cache = await admin.get("cache")
        page = (await (await log_in(admin)).get("/admin/cache")).text
    assert (cache["disk_bytes"], cache["num_files"]) == (1000, 1)
    assert (cache["written_bytes"], cache["written_today_bytes"]) == (3 * 10**12, 0)
    assert "3.0\u00a0TB" in page
    assert "the script says so" in page, "why a prompt missed"
    assert 0 < cache["num_cached_tokens"] < cache["num_queried_tokens"]


async def test_clearing_the_cache_leaves_what_is_not_its_own(tmp_path: Path):
    folder = tmp_path / "cache" / ("ab" * 16)
    folder.mkdir(parents=True)
    (folder / f"{'0' * 64}.safetensors").write_bytes(b"x" * 1000)
    (folder / "notes.txt").write_bytes(b"mine")
    async with admin_serving(tmp_path) as admin:
        assert (await admin.get("cache"))["num_files"] == 1
        cleared = (await admin.delete("cache")).raise_for_status().json()
    assert (cleared["num_files"], cleared["disk_bytes"]) == (0, 0)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


async def test_the_seven_probes_run_from_the_page(tmp_path: Path):
    async with admin_serving(tmp_path, "391") as admin:
        with published(tmp_path / "run" / "server.json", state_of(admin)):
            assert (await admin.post("checks", {"kind": "probe", "model": "nothing"})).status_code == 404
            started = await admin.post("checks", {"kind": "probe", "model": MODEL})
            assert started.status_code == 202
            assert (await admin.post("checks", {"kind": "probe", "model": MODEL})).status_code == 409
            (check,) = await admin.get("checks")
            while check["state"] == "running":
                (check,) = await admin.get("checks")
    assert check["state"] == "done", check
    assert len(check["result"]["probes"]) == 7


async def test_a_check_that_is_cancelled_says_so(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        with published(tmp_path / "run" / "server.json", state_of(admin)):
            await admin.post("checks", {"kind": "probe", "model": MODEL})
            (check,) = (await admin.delete("checks")).json()
    assert check["state"] == "cancelled"


async def test_the_benchmark_runs_from_the_page_and_shows_its_rows(tmp_path: Path):
    async with admin_serving(tmp_path, "391", context_window=16384) as admin:
        with published(tmp_path / "run" / "server.json", state_of(admin)):
            await admin.post("checks", {"kind": "bench", "model": MODEL})
            (check,) = await admin.get("checks")
            while check["state"] == "running":
                (check,) = await admin.get("checks")
            page = (await (await log_in(admin)).get("/admin/checks")).text
    assert check["state"] == "done", check
    (measured,) = check["result"]
    assert {row["kind"] for row in measured["rows"]} == {"throughput", "context"}
    assert "8 streams" in page
    drawn = [row["amount"] for row in measured["rows"] if row["kind"] == "context" and not row["error"]]
    plotted = re.search(r'data-ramp="([^"]*)"', page)
    assert plotted is not None
    assert [row["amount"] for row in json.loads(html.unescape(plotted[1]))] == drawn != []
