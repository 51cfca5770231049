"""A model whose folder was spoilt after the server had found it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from ..text_model import build_text_model
from .serving import MODEL, serving
from .test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY

SPOILT: dict[str, Callable[[Path], object]] = {
    "tokenizer.json": lambda file: file.write_bytes(file.read_bytes()[:200]),
    "tokenizer_config.json": lambda file: file.write_text('{"eos_token": '),
    "config.json": lambda file: file.write_text("{"),
}
PATHS = [
    (CHAT, CHAT_BODY),
    (CHAT, {**CHAT_BODY, "stream": True}),
    ("/v1/completions", {"model": MODEL, "prompt": "x"}),
    ("/v1/responses", {"model": MODEL, "input": "x"}),
    (MESSAGES, MESSAGES_BODY),
    (f"{MESSAGES}/count_tokens", MESSAGES_BODY),
]


@pytest.mark.parametrize("name", SPOILT)
async def test_a_file_that_cannot_be_read_is_named_with_the_remedy_and_the_lists_go_on(tmp_path: Path, name: str):
    async with serving(tmp_path, "Hi.") as server:
        SPOILT[name](tmp_path / "models" / MODEL / name)
        for path, body in PATHS:
            response = await server.client.post(path, json=body)
            error = response.json()["error"]
            assert (response.status_code, error["type"]) == (400, "invalid_request_error")
            assert str(tmp_path / "models" / MODEL / name) in error["message"]
            assert "fetch the model again" in error["message"]
        for path in ("/v1/models", f"/v1/models/{MODEL}"):
            assert (await server.client.get(path)).status_code == 200


def building(change: dict[str, Any]) -> Callable[[Path, int], tokenizers.Tokenizer]:
    """A model whose tokenizer.json is changed once the answers are written in its tokens."""

    def build(folder: Path, context_window: int) -> tokenizers.Tokenizer:
        tokenizer = build_text_model(folder, context_window)
        file = folder / "tokenizer.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
        return tokenizer

    return build


PANICS: dict[str, dict[str, Any]] = {
    "when it is read": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "when it encodes": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "no panic, but an error": {"model": {"type": "WordLevel", "vocab": {"a": 1}, "unk_token": "x"}},
}
STRIPPED = {"decoder": {"type": "Strip", "content": "a", "start": 10**6, "stop": 10**6}}
"""It panics at any answer."""


@pytest.mark.parametrize("when", PANICS)
async def test_a_tokenizer_that_panics_is_a_file_that_cannot_be_read(tmp_path: Path, when: str):
    async with serving(tmp_path, "Hi.", build=building(PANICS[when])) as server:
        for path, body in PATHS:
            response = await server.client.post(path, json=body)
            assert response.status_code == 400
            assert "tokenizer.json is not a tokenizer" in response.json()["error"]["message"]


async def test_one_that_panics_at_an_answer_ends_it_with_its_protocols_error(tmp_path: Path):
    async with serving(tmp_path, "a", build=building(STRIPPED)) as server:
        for path, body in PATHS[:-1]:
            whole = await server.client.post(path, json={**body, "stream": False})
            assert (whole.status_code, "tokenizer.json" in whole.json()["error"]["message"]) == (400, True)
            streamed = await server.client.post(path, json={**body, "stream": True})
            assert "the model's tokenizer fails at this text" in streamed.text
        health = (await server.client.get("/health")).json()
        assert (health["status"], health["num_running"], health["num_waiting"]) == ("ok", 0, 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {**CHAT_BODY, "model": "x" * 100_000}),
        (MESSAGES, {**MESSAGES_BODY, "model": "x" * 100_000}),
        (CHAT, {**CHAT_BODY, "messages": [{"role": "x" * 100_000, "content": ""}]}),
        (CHAT, {**CHAT_BODY, "tool_choice": "x" * 100_000}),
        (MESSAGES, {**MESSAGES_BODY, "thinking": {"type": "x" * 100_000}}),
        ("/v1/responses", {"model": MODEL, "input": "x", "previous_response_id": "x" * 100_000}),
        ("/v1/responses", {"model": MODEL, "input": "x", "text": {"format": {"type": "x" * 100_000}}}),
    ],
)
async def test_an_error_does_not_repeat_all_of_what_was_sent(tmp_path: Path, path: str, body: dict):
    async with serving(tmp_path, "Hi.") as server:
        response = await server.client.post(path, json=body)
        missing = await server.client.get(f"/v1/models/{'x' * 10_000}")
    assert 400 <= response.status_code < 500
    assert len(response.content) < 5000
    assert len(missing.content) < 500
    assert "Available models: tiny" in missing.json()["error"]["message"]
