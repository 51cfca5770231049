"""Who sent a request, as the log and the pages name it."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path

import pytest

from omlx.server.api.admin.browsers import browser_of
from omlx.server.api.agents import agent_of

from .serving import MODEL, serving

CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "a secret of mine"}]}


@pytest.mark.parametrize(
    ("key_name", "user_agent", "agent"),
    [
        ("pi", "claude-cli/2.1.330 (external, cli)", "pi"),
        ("", "claude-cli/2.1.330 (external, cli)", "claude"),
        ("", "opencode/1.18.33 ai-sdk/6", "opencode"),
        ("", "QwenCode/0.24.4 (linux; x64)", "qwen"),
        ("", "OpenAI/Python 3.54.0", "openai"),
        ("", "", ""),
        ("", "\x1b[31m evil", ""),
        ("", "x" * 500, "x" * 64),
    ],
)
def test_a_keys_name_goes_before_the_user_agent(key_name: str, user_agent: str, agent: str):
    assert agent_of(key_name, user_agent) == agent


@pytest.mark.parametrize(
    ("key_name", "user_agent", "agent"),
    [
        ("", "OpenAI/JS 6.26.0", "pi"),
        ("", "", "pi"),
        ("", "opencode/1.18.33 ai-sdk/6", "opencode"),
        ("hermes", "OpenAI/JS 6.26.0", "hermes"),
    ],
)
def test_who_was_launched_is_known_where_the_user_agent_names_a_library(key_name: str, user_agent: str, agent: str):
    assert agent_of(key_name, user_agent, launched="pi") == agent


async def test_the_log_names_the_launched_agent_where_no_key_is_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    headers = {"authorization": "Bearer omlx-run-random", "user-agent": "OpenAI/JS 6.26.0"}
    async with serving(tmp_path, "Hi.") as server:
        launch = {"agent": "pi", "model": MODEL}
        (await server.client.post("/v1/launches", json=launch, headers=headers)).raise_for_status()
        with caplog.at_level(logging.INFO):
            await server.client.post(CHAT, json=BODY, headers=headers)
    (line,) = (message for message in caplog.messages if message.startswith("request "))
    assert "agent=pi model=tiny" in line


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox, macOS"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139 Safari/537",
            "Chrome, Linux",
        ),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Version/18.6 Mobile Safari/604.1", "Safari, iOS"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/139.0 Safari/537.36 Edg/139.0", "Edge, Windows"),
        ("curl/8.9", "curl"),
    ],
)
def test_a_browser_is_named_with_its_system(user_agent: str, words: str):
    assert browser_of(user_agent) == words


async def test_the_log_tells_of_a_request_what_it_took_and_neither_text_nor_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    key = {"name": "hermes", "sha256": hashlib.sha256(b"sk-omlx-mine").hexdigest(), "expires": None}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}))
    async with serving(tmp_path, "An answer of its own.") as server:
        with caplog.at_level(logging.DEBUG):
            response = await server.client.post(CHAT, json=BODY, headers={"authorization": "Bearer sk-omlx-mine"})
    assert response.status_code == 200
    (line,) = (message for message in caplog.messages if message.startswith("request "))
    assert "agent=hermes model=tiny outcome=stop" in line
    for secret in ("secret", "answer of its", "sk-omlx-mine", key["sha256"]):
        assert str(secret) not in caplog.text


async def test_a_prompt_over_the_window_leaves_its_line_too(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with serving(tmp_path, "Hi.", context_window=64) as server:
        with caplog.at_level(logging.INFO):
            prompt = [{"role": "user", "content": "long " * 100}]
            refused = await server.client.post(CHAT, json={**BODY, "messages": prompt})
    (line,) = (message for message in caplog.messages if message.startswith("request "))
    assert "outcome=error cause=context_length_exceeded" in line
    told = re.search(r"(\d+) tokens > 63 maximum", refused.json()["error"]["message"])
    assert told is not None
    assert int(told[1]) > 500
    assert f" prompt_tokens={told[1]} cached_tokens=0 " in line
    assert "long" not in line
