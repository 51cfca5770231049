"""Thinking that ends where its budget does: HTTP, a real engine, and a model that would think for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from omlx.server.serving import mlx_engine_command
from omlx.server.settings import ServeSettings

from ..tiny_model import build_tiny_model, needs_embedded_model
from .serving import Serving, serving

pytestmark = needs_embedded_model

THINKER = "thinker"
USER = [{"role": "user", "content": "Hi"}]
OPENS_ANSWER = "{{- '<|im_start|>assistant\\n' }}\n{%- if enable_thinking"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    """Its template opens the thinking; the model's words are random, so that it never closes it."""
    template = build_tiny_model(tmp_path / "models" / THINKER, context_window=4096) / "chat_template.jinja"
    plain = template.read_text(encoding="utf-8")
    assert plain.count(OPENS_ANSWER) == 1
    opened = OPENS_ANSWER.replace("assistant\\n", "assistant\\n<think>\\n")
    template.write_text(plain.replace(OPENS_ANSWER, opened), encoding="utf-8")
    command = mlx_engine_command(ServeSettings(home=tmp_path, model_dirs=()))
    async with serving(tmp_path, "unused", engine_command=command) as running:
        yield running


def of_chat(answer: Any) -> tuple[str, str, int]:
    message = answer["choices"][0]["message"]
    details = answer["usage"]["completion_tokens_details"]
    return message.get("reasoning_content", ""), message["content"], details["reasoning_tokens"]


def of_messages(answer: Any) -> tuple[str, str, int]:
    blocks = {block["type"]: block for block in answer["content"]}
    text = blocks["text"]["text"] if "text" in blocks else ""
    return blocks["thinking"]["thinking"], text, answer["usage"]["output_tokens_details"]["thinking_tokens"]


def of_responses(answer: Any) -> tuple[str, str, int]:
    items = {item["type"]: item for item in answer["output"]}
    text = items["message"]["content"][0]["text"] if "message" in items else ""
    thinking = items["reasoning"]["content"][0]["text"]
    return thinking, text, answer["usage"]["output_tokens_details"]["reasoning_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "limit", "budget", "read"),
    [
        (
            "/v1/chat/completions",
            {"messages": USER, "max_tokens": 60, "temperature": 0},
            {"chat_template_kwargs": {"thinking_budget": 20}},
            20,
            of_chat,
        ),
        (
            "/v1/messages",
            {"messages": USER, "max_tokens": 60, "temperature": 0},
            {"thinking": {"type": "enabled", "budget_tokens": 20}},
            20,
            of_messages,
        ),
        (
            "/v1/responses",
            {"input": USER, "max_output_tokens": 560, "temperature": 0},
            {"reasoning": {"effort": "minimal"}},
            512,
            of_responses,
        ),
    ],
)
async def test_the_thinking_ends_at_its_budget_and_the_answer_follows(
    server: Serving, path: str, body: dict[str, Any], limit: dict[str, Any], budget: int, read: Any
) -> None:
    async def ask(**fields: Any) -> tuple[str, str, int]:
        response = await server.client.post(path, json={"model": THINKER, **body, **fields})
        return read(response.raise_for_status().json())

    endless, no_text, _ = await ask()
    thinking, text, num_thinking_tokens = await ask(**limit)

    assert no_text == ""
    assert endless.startswith(thinking.strip())
    assert 0 < len(thinking) < len(endless)
    assert text
    assert "</think>" not in thinking + text
    assert num_thinking_tokens == pytest.approx(budget, abs=2)
