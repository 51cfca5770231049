"""What each dialect's way of limiting the thinking comes to for the engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from omlx.server.dialects import anthropic_messages, openai_chat, openai_responses
from omlx.server.dialects.openai_response_store import ResponseStore
from omlx.server.engine.model_text import ModelText
from omlx.server.engine.thinking_budget import budget_of
from omlx.server.models.catalog import read_entry
from omlx.server.requests import GenerationRequest, ReasoningOptions
from omlx.server.settings.values import ModelSettings

from ..text_model import build_text_model

USER = [{"role": "user", "content": "x"}]
CHAT, MESSAGES = openai_chat.decode, anthropic_messages.decode


def responses(body: bytes, request_id: str) -> openai_responses.Call:
    return openai_responses.ResponsesDialect(ResponseStore()).decode(body, request_id)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelText:
    """Its template writes the thinking, opens it for the answer, and reads neither effort nor budget."""
    folder = tmp_path_factory.mktemp("models") / "m"
    build_text_model(folder)
    template = folder / "chat_template.jinja"
    opened = template.read_text().replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    template.write_text(opened + "{# </think> #}")
    return ModelText.read(read_entry(folder, "m"))


def budget(text: ModelText, request: GenerationRequest) -> int | None:
    found = text.thinking(request, text.render(request))
    if found is None:
        return None
    decode = text.renderer.tokenizer.decode
    assert (decode(found.start_ids), decode(found.end_ids), found.is_open) == ("<think>", "</think>", True)
    return found.num_tokens


@pytest.mark.parametrize(
    ("decode", "fields", "tokens"),
    [
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1234}}, 1234),
        (MESSAGES, {"thinking": {"type": "disabled"}}, None),
        (MESSAGES, {"output_config": {"effort": "low"}}, 2048),
        (MESSAGES, {}, None),
        (CHAT, {"reasoning_effort": "minimal"}, 512),
        (CHAT, {"reasoning_effort": "high"}, None),
        (CHAT, {"reasoning_effort": "none"}, None),
        (CHAT, {"chat_template_kwargs": {"thinking_budget": 77}}, 77),
        (responses, {"reasoning": {"effort": "medium"}}, 8192),
    ],
)
def test_every_dialect_can_limit_the_thinking(
    model: ModelText, decode: Any, fields: dict[str, object], tokens: int | None
) -> None:
    body = {"model": "m", "max_tokens": 9, **({"input": USER} if decode is responses else {"messages": USER}), **fields}
    assert budget(model, decode(json.dumps(body).encode(), "r").request) == tokens


def test_the_models_own_budget_is_for_requests_that_name_none(model: ModelText) -> None:
    limited = model.configured(ModelSettings(thinking_budget=300))
    body = {"model": "m", "messages": USER, "max_tokens": 9}
    asked = CHAT(json.dumps(body).encode(), "r").request
    assert budget(limited, asked) == 300
    assert budget(limited, replace(asked, reasoning=ReasoningOptions(budget_tokens=50))) == 50
    assert budget(limited, replace(asked, reasoning=ReasoningOptions(enabled=False))) is None


def test_a_template_that_reads_the_effort_is_left_to_it() -> None:
    asked = GenerationRequest("r", "m", (), reasoning=ReasoningOptions(effort="low"))
    assert budget_of(asked, ReasoningOptions(), {"reasoning_effort"}) is None
    assert budget_of(asked, ReasoningOptions(budget_tokens=9), {"reasoning_effort"}) == 9
