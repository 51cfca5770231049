"""`/health` and `/ready`: what the server tells of itself and of its engines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from ..waiting import until
from .serving import MODEL, serving
from .test_server import CHAT, CHAT_BODY, num_running


async def test_health_tells_what_the_server_is(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        health = (await server.client.get("/health")).json()
        ready = await server.client.get("/ready")
    assert health["instance_id"] == "an-instance"
    assert (health["status"], ready.status_code) == ("ok", 200)


async def test_an_engine_that_says_nothing_for_long_makes_the_server_unready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with serving(tmp_path, "Hi.") as server:
        await server.client.post(CHAT, json=CHAT_BODY)
        lively = await server.client.get("/ready")
        monkeypatch.setattr("omlx.server.api.health._STALLED_SECONDS", 0.0)
        stalled = await server.client.get("/ready")
    pulse = lively.json()["engines"][MODEL]
    assert lively.status_code == 200
    assert 0 <= pulse["seconds_since_step"] <= pulse["seconds_since_decode"]
    assert pulse["waiting_seconds"] == 0
    assert (stalled.status_code, stalled.json()["stalled"]) == (503, [MODEL])


async def test_a_group_that_is_held_up_is_unready_and_tells_who_does_until_it_goes_on(tmp_path: Path):
    reason = "rank 1 (studio-2) got no further for 4 seconds; try again"
    async with serving(tmp_path, "Hi.", stalls=reason, prefill_seconds_per_token=0.03) as server:
        answer = await server.client.post(CHAT, json=CHAT_BODY)
        held_up = await server.client.get("/ready")
        await until(lambda: not server.pool.engines[MODEL].stalled_for)
        ready = await server.client.get("/ready")
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, reason)
    assert (held_up.status_code, held_up.json()["stalled"], held_up.json()["reasons"]) == (
        503,
        [MODEL],
        {MODEL: reason},
    )
    assert ready.status_code == 200


async def test_a_loaded_model_says_how_its_rows_are_decoded_together_and_which_take_drafts(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        (await server.client.post(CHAT, json=CHAT_BODY)).raise_for_status()
        (card,) = (await server.client.get("/v1/models")).json()["data"]
    told = {key: card["omlx"][key] for key in ("batching", "batching_reason", "drafting", "drafting_reason")}
    assert told == {"batching": "batched", "batching_reason": "", "drafting": "all", "drafting_reason": ""}


async def test_the_age_of_the_queue_is_told(tmp_path: Path):
    async with serving(tmp_path, "x" * 4000, step_seconds=0.01, max_num_seqs=1) as server:
        taken: list[asyncio.Task[httpx.Response]] = []
        for count in (1, 2):
            taken.append(asyncio.create_task(server.client.post(CHAT, json=CHAT_BODY)))
            await until(lambda count=count: MODEL in server.pool.engines and num_running(server) == count)
        await until(lambda: server.pool.engines[MODEL].pulse.waiting_seconds > 0.02)
        for task in taken:
            task.cancel()


async def test_a_cache_that_keeps_nothing_degrades_the_server_and_serving_goes_on(tmp_path: Path):
    async with serving(tmp_path, "Hi.", cache_trouble="the disk of /cache is full") as server:
        answer = await server.client.post(CHAT, json=CHAT_BODY)
        health = (await server.client.get("/health")).json()
        ready = await server.client.get("/ready")
    assert (answer.status_code, ready.status_code) == (200, 200)
    assert (health["status"], health["cache_trouble"]) == ("degraded", {MODEL: "the disk of /cache is full"})


async def test_the_metrics_tell_how_much_of_the_disk_the_prefixes_take(tmp_path: Path):
    folder = tmp_path / "cache" / ("ab" * 16)
    folder.mkdir(parents=True)
    (folder / f"{'0' * 64}.safetensors").write_bytes(bytes(1000))
    (folder / "notes.txt").write_bytes(bytes(50))
    async with serving(tmp_path, "Hi.") as server:
        shown = (await server.client.get("/metrics")).text
    assert "omlx:prefix_cache_disk_bytes 1000.0" in shown
