"""What the log may hold: who asked, never what, never with which key, and one line for each thing."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from omlx.server.api.answers import EventStream
from omlx.server.api.keys import ServerKeys
from omlx.server.engine.generation import Generator
from omlx.server.engine.process import EngineCommand
from omlx.server.log_ring import LogRing
from omlx.server.server_log import start_logging

from ..api.serving import MODEL, serving
from ..api.test_server import CHAT, CHAT_BODY, MESSAGES
from ..api.test_server_log import log  # noqa: F401
from ..text_model import build_text_model

KEY, SECRET, ANSWER = "sk-the-key-itself", "the-words-of-the-prompt", "the-words-of-the-answer"
FORGED = "x\n2026-01-01 00:00:00,000 ERROR omlx.server.api: forged \x1b[2J\nERROR forged, too"
NASTY = "evil\x1b[31m\x7f"
SAID = [{"role": "user", "content": SECRET}]
DIALECTS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"model": MODEL, "messages": SAID}),
    (MESSAGES, {"model": MODEL, "messages": SAID, "max_tokens": 100}),
    ("/v1/responses", {"model": MODEL, "input": SECRET}),
    ("/v1/completions", {"model": MODEL, "prompt": SECRET}),
]
ANSWERED = [(path, {**body, "stream": stream}) for path, body in DIALECTS for stream in (False, True)]
COUNTED = f"{MESSAGES}/count_tokens", {"model": MODEL, "messages": SAID}
REFUSED: list[tuple[str, dict[str, Any]]] = [
    *(
        (path, {**body, field: SECRET})
        for path, body in DIALECTS
        for field in ("model", "tools", "stop", "temperature")
    ),
    (CHAT, {"model": MODEL, "messages": SECRET}),
    ("/v1/embeddings", {"model": MODEL, "input": SECRET}),
    ("/v1/embeddings", {"model": MODEL, "input": {"text": SECRET}}),
    ("/v1/rerank", {"model": MODEL, "query": SECRET, "documents": [SECRET]}),
    ("/v1/launches", {"model": SECRET, "agent": SECRET}),
]


async def test_no_prompt_answer_or_key_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, logger="omlx")
    async with serving(tmp_path, ANSWER, api_key=KEY) as server:
        for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"x-api-key": f"{KEY}-wrong"}):
            for path, body in (*ANSWERED, COUNTED):
                answer = await server.client.post(path, json=body, headers=headers)
                assert answer.status_code == (401 if "wrong" in str(headers) else 200), (path, answer.text)
        for path, body in REFUSED:
            await server.client.post(path, json=body, headers={"x-api-key": KEY})
        posts = [server.client.post(path, json=body, headers={"x-api-key": KEY}) for path, body in ANSWERED]
        waiting = asyncio.gather(*posts)
        await asyncio.sleep(0)
        server.pool.engines[MODEL].kill("a crash")
        await waiting
    assert "request" in caplog.text
    for words in (KEY, SECRET, ANSWER):
        assert words not in caplog.text


async def test_an_exception_that_quotes_the_prompt_brings_kind_and_place_alone_into_the_log(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: Path,  # noqa: F811
):
    def failing(*_: object) -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"nothing is known of {SECRET}") from error

    async def failing_later() -> None:
        failing()

    start_logging(log.parent, quiet=True)
    ring = LogRing()
    with ring.attached():
        async with serving(tmp_path, ANSWER) as server:
            with monkeypatch.context() as patch:
                patch.setattr(Generator, "_render_now", failing)
                for path, body in (*ANSWERED, COUNTED):
                    assert (await server.client.post(path, json=body)).status_code == 500
            with monkeypatch.context() as patch:
                patch.setattr(EventStream, "_records_of", failing)
                for path, body in DIALECTS:
                    assert "internal error" in (await server.client.post(path, json={**body, "stream": True})).text
            with monkeypatch.context() as patch:
                patch.setattr(ServerKeys, "holder_of", failing)
                assert (await server.client.post(CHAT, json=DIALECTS[0][1])).status_code == 500
            await asyncio.wait({asyncio.create_task(failing_later())})
            gc.collect()
    text, lines = log.read_text(), [line.message for line in ring.lines()]
    assert SECRET not in text + "\n".join(lines)
    # Nine bodies, four streams, the guard and the task, each with an exception and the one that led to it.
    assert text.count("ValueError\n") == text.count("KeyError\n") == 15
    assert text.count(", in failing\n") == 30
    assert len([line for line in lines if "KeyError\n" in line]) == 15


async def test_what_a_client_writes_cannot_forge_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG, logger="omlx")
    async with serving(tmp_path, "Hi.") as server:
        await server.client.post(CHAT, json=CHAT_BODY, headers=[(b"user-agent", NASTY.encode("latin-1"))])
        await server.client.post(CHAT, json={**CHAT_BODY, "model": "a\nINFO forged \x1b[2J"})
        await server.client.post(CHAT, json={**CHAT_BODY, "a\r\nforged": 1, "user": "x\nforged"})
        await server.client.get("/v1/models/a%0aforged%1b")
        await server.client.post("/v1/a%0d%0aforged", json={})
        monkeypatch.setattr("omlx.server.models.pool.ModelPool.entry", lambda *_: 1 / 0)
        assert (await server.client.get("/v1/models/a%0aforged%1b")).status_code == 500
    for record in caplog.records:
        if record.name.startswith("omlx"):
            assert not [mark for mark in record.getMessage() if not mark.isprintable()], record.getMessage()


def build_forging_model(folder: Path, context_window: int = 4096) -> tokenizers.Tokenizer:
    """A model with one tensor, which the architecture does not have: MLX names it where it refuses the folder."""
    tokenizer = build_text_model(folder, context_window)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = json.loads((folder / "config.json").read_text()) | sizes | {"rms_norm_eps": 1e-5}
    (folder / "config.json").write_text(json.dumps(config))
    header = json.dumps({FORGED: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return tokenizer


async def test_what_a_models_files_say_cannot_forge_a_line_or_steer_a_terminal(
    tmp_path: Path,
    log: Path,  # noqa: F811
):
    argv = [sys.executable, "-m", "omlx.server.engine", "--model", str(tmp_path / "models" / MODEL)]
    command = EngineCommand(argv, os.environ, MODEL)
    start_logging(log.parent, quiet=True)
    ring = LogRing()
    with ring.attached():
        async with serving(tmp_path, engine_command=lambda _: command, build=build_forging_model) as server:
            refused = await server.client.post(CHAT, json=CHAT_BODY)
            health = await server.client.get("/health")
    told = [line for line in log.read_text().splitlines() if "forged" in line]
    assert len(told) > 1  # by the engine, and by the server that hears of it
    assert [line for line in told if not re.match(r"[-\d]+ [:,\d]+ [A-Z]+ omlx\.server\.(engine|models)\.", line)] == []
    shown = [*told, *(line.message for line in ring.lines())]
    shown += [refused.json()["error"]["message"], *health.json()["reasons"].values()]
    assert sum("forged" in text for text in shown) > 4
    assert [text for text in shown if not text.isprintable()] == []
