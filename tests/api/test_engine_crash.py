"""An engine that crashes, or hangs, ends its own requests and nothing else: the server goes on with a new one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ..torture.answers import text_of
from ..waiting import until
from .serving import MODEL, Serving, serving
from .test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY, num_running

LONG = "x" * 4000
USER = [{"role": "user", "content": "hello"}]
DIALECTS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, CHAT_BODY),
    (MESSAGES, MESSAGES_BODY),
    ("/v1/responses", {"model": MODEL, "input": "hello"}),
    ("/v1/completions", {"model": MODEL, "prompt": "hello"}),
]
CRASHES = [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS]


def last_record(body: str) -> dict[str, Any]:
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return json.loads([line for line in lines if line != "[DONE]"][-1])


def crash(server: Serving, how: signal.Signals = signal.SIGKILL) -> int:
    pid = server.pool.engines[MODEL].pid
    os.kill(pid, how)
    return pid


async def new_engine(server: Serving, old_pid: int) -> None:
    await until(lambda: MODEL in server.pool.engines and server.pool.engines[MODEL].pid != old_pid)


@pytest.mark.parametrize(("path", "body"), DIALECTS)
async def test_every_dialects_stream_ends_with_its_error(tmp_path: Path, path: str, body: dict[str, Any]):
    async with (
        serving(tmp_path, LONG, step_seconds=0.005) as server,
        server.client.stream("POST", path, json={**body, "stream": True}) as response,
    ):
        pieces = response.aiter_text()
        received = await anext(pieces)
        crash(server, signal.SIGABRT)
        async for piece in pieces:
            received += piece
    error = last_record(received)
    message = (error.get("response") or error)["error"]["message"]
    assert "crashed (SIGABRT)" in message


@pytest.mark.parametrize(("path", "body"), DIALECTS)
async def test_a_client_that_waits_for_the_whole_answer_gets_a_500(tmp_path: Path, path: str, body: dict[str, Any]):
    async with serving(tmp_path, LONG, step_seconds=0.005) as server:
        waiting = asyncio.create_task(server.client.post(path, json=body))
        await until(lambda: MODEL in server.pool.engines and num_running(server) == 1)
        crash(server)
        answer = await waiting
    assert answer.status_code == 500
    assert "killed (SIGKILL)" in answer.json()["error"]["message"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
async def test_the_streams_of_another_model_go_on(tmp_path: Path, how: signal.Signals):
    whole = "x" * 300
    async with serving(tmp_path, whole, step_seconds=0.01, others=["other"]) as server:

        async def ask(path: str, body: dict[str, Any], model: str, max_tokens: int) -> bytes:
            name = "max_output_tokens" if "input" in body else "max_tokens"
            fields = {**body, "model": model, name: max_tokens, "stream": True}
            return (await server.client.post(path, json=fields)).content

        for model in (MODEL, "other"):
            await ask(CHAT, CHAT_BODY, model, 1)
        other = server.pool.engines["other"]
        unharmed = [asyncio.create_task(ask(path, body, "other", 1000)) for path, body in DIALECTS]
        crashing = [asyncio.create_task(ask(path, body, MODEL, 1000)) for path, body in DIALECTS]
        await until(lambda: other.stats.num_running == num_running(server) == len(DIALECTS))
        crash(server, how)
        for ended in await asyncio.gather(*crashing):
            assert "error" in str(last_record(ended.decode()))
        for (path, _), answer in zip(DIALECTS, await asyncio.gather(*unharmed), strict=True):
            assert text_of(path, True, answer) == whole
        assert server.pool.engines["other"] is other
        assert other.is_alive


@pytest.mark.parametrize("how", CRASHES)
async def test_a_crashed_engine_is_replaced_without_being_asked_and_the_next_request_served(
    tmp_path: Path, how: signal.Signals
):
    async with serving(tmp_path, "Hi.") as server:
        await server.client.post(CHAT, json=CHAT_BODY)
        old_pid = crash(server, how)
        await new_engine(server, old_pid)
        assert (await server.client.post(CHAT, json=CHAT_BODY)).status_code == 200
        assert (await server.client.get("/health")).json()["status"] == "ok"


async def test_a_killed_idle_engine_leaves_a_line_with_its_model_process_and_signal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with serving(tmp_path, "Hi.") as server:
        await server.client.post(CHAT, json={**CHAT_BODY, "max_tokens": 1})
        await until(lambda: num_running(server) == 0)
        old_pid = crash(server)
        await new_engine(server, old_pid)
    (said,) = [record.getMessage() for record in caplog.records if "died" in record.getMessage()]
    assert said.startswith(f"The engine of {MODEL} (process {old_pid}) died: the engine process was killed (SIGKILL); ")
    assert said.endswith("may have run out of memory. It is started again: quick death 1 of 3")


async def test_three_crashes_in_a_row_stop_the_model_and_health_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with serving(tmp_path, "Hi.") as server:
        for _ in range(3):
            await server.client.post(CHAT, json=CHAT_BODY)
            old_pid = crash(server)
            await until(lambda pid=old_pid: bool(server.pool.failed) or _is_another(server, pid))
        refused = await server.client.post(CHAT, json=CHAT_BODY)
        health = (await server.client.get("/health")).json()
        ready = await server.client.get("/ready")
    assert refused.status_code == ready.status_code == 503
    assert (health["status"], health["failed"]) == ("degraded", [MODEL])
    for text in (refused.json()["error"]["message"], health["reasons"][MODEL], caplog.text):
        assert "its engine died 3 times in a row, at last because the engine process was killed" in text
        assert "then load it again on the dashboard's Models page, or restart omlx" in text


async def test_an_engine_that_hangs_is_killed_and_replaced(tmp_path: Path):
    async with (
        serving(tmp_path, LONG, step_seconds=0.01) as server,
        server.client.stream("POST", MESSAGES, json={**MESSAGES_BODY, "stream": True}) as response,
    ):
        pieces = response.aiter_text()
        received = await anext(pieces)
        old_pid = crash(server, signal.SIGSTOP)
        await until(lambda: server.pool.engines[MODEL].silent_seconds > 1)
        for _ in range(2):
            server.pool.check_silence(1)
        async for piece in pieces:
            received += piece
        await new_engine(server, old_pid)
        tokens = await server.client.post(MESSAGES, json={**MESSAGES_BODY, "max_tokens": 1})
    assert "said nothing for" in last_record(received)["error"]["message"]
    assert tokens.status_code == 200


async def test_an_idle_engine_that_says_it_lives_is_left_alone(tmp_path: Path):
    async with serving(tmp_path, "Hi.", stall_seconds=16.0) as server:
        await server.client.post(CHAT, json=CHAT_BODY)
        engine = server.pool.engines[MODEL]
        for _ in range(3):  # it is heard of every two seconds
            before = engine._stepped_at or 0.0
            await until(lambda before=before: (engine._stepped_at or 0.0) > before)
        server.pool.check_silence(16.0)
        assert engine.is_alive
        assert not server.pool.failed


def _is_another(server: Serving, pid: int) -> bool:
    return MODEL in server.pool.engines and server.pool.engines[MODEL].pid != pid
