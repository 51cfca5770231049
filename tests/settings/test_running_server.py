"""A model's settings on a server that runs: they hold from the next request on."""

from __future__ import annotations

import os
from pathlib import Path

from omlx.server.serving import engine_flags
from omlx.server.settings import ServeSettings
from omlx.server.settings.values import CacheSettings, EngineSettings

from ..api.serving import MODEL, serving

CHAT = "/v1/chat/completions"


def chat(text: str, **fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


async def test_a_prompt_over_the_window_is_accepted_once_the_window_is_set_larger(tmp_path: Path):
    prompt = chat("x" * 40_000, max_tokens=8)
    async with serving(tmp_path, "Hi.", context_window=131072) as server:
        server.model_settings.change(MODEL, {"max_context_window": 32768})
        refused = await server.client.post(CHAT, json=prompt)
        card = (await server.client.get(f"/v1/models/{MODEL}")).json()
        server.model_settings.change(MODEL, {"max_context_window": 131072})
        accepted = await server.client.post(CHAT, json=prompt)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert "32767 maximum" in refused.json()["error"]["message"]
    assert card["max_model_len"] == 32768
    assert accepted.status_code == 200, accepted.text
    assert accepted.json()["choices"][0]["message"]["content"] == "Hi."


async def test_a_file_edited_by_hand_counts_too(tmp_path: Path):
    async with serving(tmp_path, "x" * 100) as server:
        whole = (await server.client.post(CHAT, json=chat("hello"))).json()
        (tmp_path / "settings.json").write_text('{"models": {"tiny": {"max_tokens": 7}}}')
        cut = (await server.client.post(CHAT, json=chat("hello"))).json()
        asked = (await server.client.post(CHAT, json=chat("hello", max_tokens=9))).json()
    assert [answer["usage"]["completion_tokens"] for answer in (whole, cut, asked)] == [100, 7, 9]


async def test_a_model_answers_to_its_alias(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        unknown = await server.client.post(CHAT, json=chat("hello", model="coder"))
        server.model_settings.change(MODEL, {"alias": "coder"})
        answer = await server.client.post(CHAT, json=chat("hello", model="coder"))
        card = (await server.client.get("/v1/models/coder")).json()
        assert list(server.pool.engines) == [MODEL]
    assert unknown.status_code == 404
    assert answer.json()["choices"][0]["message"]["content"] == "Hi."
    assert (card["id"], card["omlx"]["alias"]) == (MODEL, "coder")


async def test_a_parser_of_the_users_choice_is_used(tmp_path: Path):
    async with serving(tmp_path, "[THINK]hm[/THINK]Hi.") as server:
        plain = (await server.client.post(CHAT, json=chat("hello"))).json()
        server.model_settings.change(MODEL, {"reasoning_parser": "magistral"})
        parsed = (await server.client.post(CHAT, json=chat("hello"))).json()
    assert plain["choices"][0]["message"]["content"] == "[THINK]hm[/THINK]Hi."
    assert parsed["choices"][0]["message"]["content"] == "Hi."


async def test_an_idle_model_leaves_when_its_time_is_over_and_a_pinned_one_stays(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        server.model_settings.change(MODEL, {"ttl_seconds": 1e-9, "pin": True})
        await server.client.post(CHAT, json=chat("hello"))
        await server.pool.unload_idle()
        assert list(server.pool.engines) == [MODEL]
        server.model_settings.change(MODEL, {"pin": None})
        await server.pool.unload_idle()
        assert list(server.pool.engines) == []
        answer = await server.client.post(CHAT, json=chat("hello"))
        assert answer.status_code == 200


def test_the_engine_is_told_its_limits(tmp_path: Path):
    folders = {"home": tmp_path, "model_dirs": ()}
    assert engine_flags(ServeSettings(**folders)) == [
        "--max-num-seqs=16",
        "--max-num-waiting=256",
        f"--cache-dir={tmp_path / 'cache'}",
        f"--cache-bytes={50 << 30}",
        f"--cache-bytes-per-day={100 << 30}",
    ]
    off = ServeSettings(**folders, cache=CacheSettings(enabled=False), engine=EngineSettings(max_num_seqs=2))
    assert engine_flags(off) == ["--max-num-seqs=2", "--max-num-waiting=256", "--cache-ram-bytes=0"]
    small = ServeSettings(**folders, cache=CacheSettings(ram_bytes="1GB", ssd_bytes=0))
    assert engine_flags(small)[2:] == ["--cache-ram-bytes=1000000000"]
    assert os.listdir(tmp_path) == []
