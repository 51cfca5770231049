"""Announced agents: their model is loaded, their opening comes back, and their first request is seen."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from omlx.server.engine import openings

from .serving import MODEL, Serving, serving

KEY = {"authorization": "Bearer the-key-of-this-launch"}
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks. " * 60, "parameters": {}}}


def body(text: str, system: str = "You are an agent. " * 40) -> dict:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "tools": [TOOL]}


async def ask(server: Serving, text: str, **more: str) -> dict:
    answer = await server.client.post("/v1/chat/completions", json=body(text, **more), headers=KEY)
    return answer.raise_for_status().json()


async def announce(server: Serving, agent: str = "pi", headers: dict[str, str] = KEY) -> dict:
    answer = await server.client.post("/v1/launches", json={"agent": agent, "model": MODEL}, headers=headers)
    return answer.raise_for_status().json()


async def told(server: Serving, launch: dict) -> dict:
    return (await server.client.get(f"/v1/launches/{launch['id']}")).raise_for_status().json()


async def ready(server: Serving, launch: dict, opened: bool = False) -> dict:
    async with asyncio.timeout(60):
        while True:
            now = await told(server, launch)
            if now["state"] == "ready" and (now["num_opening_tokens"] or not opened):
                return now
            await asyncio.sleep(0.005)


async def idle(server: Serving) -> None:
    async with asyncio.timeout(60):
        while any(engine.stats.num_running + engine.stats.num_waiting for engine in server.pool.engines.values()):
            await asyncio.sleep(0.005)


async def test_an_announced_agents_model_is_loaded(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        assert server.pool.engines == {}
        launch = await announce(server)
        assert MODEL in server.pool.engines
        assert (await ready(server, launch))["error"] == ""


async def test_a_request_with_the_launchs_key_is_counted_and_no_other(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        launch = await announce(server)
        await server.client.post("/v1/chat/completions", json=body("Hello"), headers={"x-api-key": "another"})
        before = await told(server, launch)
        await ask(server, "Hello")
        after = await told(server, launch)
    assert (before["num_requests"], after["num_requests"]) == (0, 1)


async def test_the_next_launch_finds_its_system_prompt_and_tools_computed_after_a_restart(tmp_path: Path):
    async with serving(tmp_path / "first", "Hi.") as server:
        await announce(server)
        cold = await ask(server, "What is this?")
    (tmp_path / "second").mkdir()
    (tmp_path / "first" / "openings").rename(tmp_path / "second" / "openings")
    async with serving(tmp_path / "second", "Hi.") as server:
        opening = (await ready(server, await announce(server), opened=True))["num_opening_tokens"]
        await idle(server)
        warm = await ask(server, "Something else entirely.")
    assert cold["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert opening > 1000
    assert warm["usage"]["prompt_tokens_details"]["cached_tokens"] >= opening


async def test_the_longest_opening_of_a_launch_is_kept_and_a_later_launch_starts_anew(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        await announce(server)
        await ask(server, "Hello", system="long " * 200)
        await ask(server, "A title?", system="Short. " * 50)
        second = await ready(server, await announce(server), opened=True)
        await ask(server, "Hello", system="Short. " * 50)
        third = await ready(server, await announce(server), opened=True)
    assert second["num_opening_tokens"] > third["num_opening_tokens"] > 0


async def test_each_agent_has_its_own_opening(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        await announce(server, "pi")
        await ask(server, "Hello")
        other = await ready(server, await announce(server, "codex"))
    assert other["num_opening_tokens"] == 0


async def test_what_is_kept_of_an_opening_is_for_its_user_alone(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        await announce(server)
        await ask(server, "Hello")
    (kept,) = (path for path in (tmp_path / "openings").rglob("*") if path.is_file())
    assert [path.stat().st_mode & 0o777 for path in (kept, kept.parent)] == [0o600, 0o700]


@pytest.mark.parametrize(("bound", "most"), [("_MAX_KEPT", 2), ("_MAX_KEPT_BYTES", 15_000)])
async def test_of_many_agents_openings_the_last_used_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
):
    """One takes between 5,000 and 7,500 bytes."""
    monkeypatch.setattr(openings, bound, most)
    folder = tmp_path / "openings"

    async def keep(server: Serving, agent: str) -> None:
        for path in folder.rglob("*"):  # clocks of file systems are coarse
            earlier = path.stat().st_mtime - 100
            os.utime(path, (earlier, earlier))
        await announce(server, agent)
        await ask(server, "Hello")

    async with serving(tmp_path, "Hi.") as server:
        for agent in ("pi", "codex", "pi", "claude"):
            await keep(server, agent)
        assert sorted(path.name for path in folder.iterdir()) == ["claude", "pi"]
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        assert len(sizes) == 2
        assert 5000 < min(sizes) <= max(sizes) < 7500


async def test_an_unknown_model_a_strange_name_and_a_missing_key_are_refused(tmp_path: Path):
    async def status(server: Serving, body: dict, headers: dict[str, str] = KEY) -> httpx.Response:
        return await server.client.post("/v1/launches", json=body, headers=headers)

    async with serving(tmp_path, "Hi.") as server:
        unknown = await status(server, {"agent": "pi", "model": "nope"})
        strange = [await status(server, {"agent": agent, "model": MODEL}) for agent in ("../pi", "pi\n")]
        keyless = await status(server, {"agent": "pi", "model": MODEL}, {})
        gone = await server.client.get(f"/v1/launches/{'0' * 32}")
    assert [each.status_code for each in (unknown, *strange, keyless, gone)] == [404, 400, 400, 400, 404]


async def test_a_server_that_wants_a_key_takes_no_announcement_without_it(tmp_path: Path):
    async with serving(tmp_path, "Hi.", api_key="secret") as server:
        refused = await server.client.post("/v1/launches", json={"agent": "pi", "model": MODEL}, headers=KEY)
    assert refused.status_code == 401
