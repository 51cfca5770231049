# ruff: noqa: RUF001  (full-width bars are what it is about)
"""DeepSeek V4's own examples of its encoding: their prompts byte for byte, and what the model wrote in them read back.

The messages are those of `encoding/tests/test_input_N.json` in DeepSeek-V4-Flash (MIT licence, revision 60d8d707),
laid out as chat templates take them; what must come out is `test_output_N.txt`, known by its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from omlx.server.dialects import openai_chat
from omlx.server.engine.model_text import ModelText
from omlx.server.models.catalog import discover
from omlx.server.parsers.selection import Formats
from omlx.server.prompts.chat_template import ChatTemplate
from omlx.server.requests import ToolDefinition

from ..parsers.running import cut, parse
from ..text_model import build_deepseek_v4_text_model
from .deepseek_v4_rules import by_the_rules

TEMPLATE = ChatTemplate(files("omlx.templates").joinpath("architectures", "deepseek_v4.jinja").read_text("utf-8"))
EXAMPLES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("deepseek_v4_examples.json").read_text("utf-8"))

for_each_example = pytest.mark.parametrize("example", EXAMPLES, ids=[example["shows"] for example in EXAMPLES])


def _rendered(example: dict[str, Any]) -> str:
    options = {"thinking": example["thinking"], "drop_thinking": True}
    return TEMPLATE.render(example["messages"], example["tools"], options=options)


@for_each_example
def test_an_official_example_comes_out_byte_for_byte(example: dict[str, Any]) -> None:
    by_hand = by_the_rules(example["messages"], example["tools"], example["thinking"], drops=True)
    for text in (_rendered(example), by_hand):
        assert hashlib.sha256(text.encode()).hexdigest() == example["sha256"], text


@for_each_example
@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("bar", ["｜", "|"])
def test_what_the_model_wrote_in_an_official_example_is_read_as_its_message(
    example: dict[str, Any], size: int, bar: str
) -> None:
    answers = [part.split("<｜end▁of▁sentence｜>")[0] for part in _rendered(example).split("<｜Assistant｜>")[1:]]
    messages = [message for message in example["messages"] if message["role"] == "assistant"]
    tools = [tool["function"] for holder in (example, *example["messages"]) for tool in holder.get("tools", ())]
    known = [ToolDefinition(tool["name"], tool["description"], tool["parameters"]) for tool in tools]
    for answer, message in zip(answers, messages, strict=True):
        thinks = answer.startswith("<think>")
        written = answer.removeprefix("<think>" if thinks else "</think>").removeprefix("<｜action｜>")
        pieces = cut(written.replace("｜DSML｜", f"{bar}DSML{bar}"), size)
        run = parse(Formats("dsml", "think"), pieces, tools=known, opens_reasoning=thinks)
        assert not run.reports
        assert run.answer.reasoning == (message["reasoning_content"] if thinks else "")
        assert run.answer.text == message.get("content", "")
        calls = [(call.name, json.loads(call.arguments)) for call in run.answer.tool_calls]
        functions = [call["function"] for call in message.get("tool_calls", ())]
        assert calls == [(function["name"], function["arguments"]) for function in functions]


def test_a_client_s_request_for_an_example_s_last_answer_has_the_example_s_prompt(tmp_path: Path) -> None:
    build_deepseek_v4_text_model(tmp_path / "v4")
    text = ModelText.read(discover([tmp_path])[0])
    example = EXAMPLES[0]
    *messages, last = json.loads(json.dumps(example["messages"]))
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    body = {"model": "v4", "messages": messages, "tools": example["tools"]}
    call = openai_chat.decode(json.dumps(body).encode(), "r")
    shown = text.renderer.tokenizer.decode(text.render(call.request).token_ids, skip_control=False)
    assert shown + f"{last['reasoning_content']}</think>{last['content']}<｜end▁of▁sentence｜>" == _rendered(example)
