# ruff: noqa: RUF001  (full-width bars are what it is about)
"""DeepSeek V4's prompts: what each rule of its published encoding makes, byte for byte, and through the server."""

from __future__ import annotations

import json
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from omlx.server.engine.model_text import ModelText
from omlx.server.events import ReasoningDelta, TextDelta, ToolCallDelta
from omlx.server.models.capabilities import read_chat_template
from omlx.server.models.catalog import discover
from omlx.server.prompts.chat_template import ChatTemplate
from omlx.server.requests import (
    GenerationRequest,
    Message,
    Reasoning,
    ReasoningOptions,
    Role,
    Text,
    ToolCall,
    ToolDefinition,
    ToolResult,
)

from ..text_model import DEEPSEEK_V4_MARKS, build_deepseek_v4_text_model, build_text_model
from .deepseek_v4_rules import tools_text

TEMPLATE = ChatTemplate(files("omlx.templates").joinpath("architectures", "deepseek_v4.jinja").read_text("utf-8"))
BOS, EOS, USER, ASSISTANT = DEEPSEEK_V4_MARKS
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "哪里",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}


def _call(call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}


def _result(call_id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _answer(content: str, thought: str = "", *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "reasoning_content": thought, "tool_calls": list(calls)}


SYSTEM = {"role": "system", "content": "Be brief."}
CASES: list[tuple[str, list[dict[str, Any]], dict[str, Any], str]] = [
    ("thinking is opened", [SYSTEM, _user("Hi")], {}, f"{BOS}Be brief.{USER}Hi{ASSISTANT}<think>"),
    ("thinking is closed", [_user("Hi")], {"thinking": False}, f"{BOS}{USER}Hi{ASSISTANT}</think>"),
    ("no effort is no thinking", [_user("Hi")], {"reasoning_effort": "none"}, f"{BOS}{USER}Hi{ASSISTANT}</think>"),
    (
        "thinking of earlier turns stays",
        [_user("A"), _answer("B", "b"), _user("C"), _answer("D", "d")],
        {},
        f"{BOS}{USER}A{ASSISTANT}<think>b</think>B{EOS}{USER}C{ASSISTANT}<think>d</think>D{EOS}",
    ),
    (
        "thinking of earlier turns is dropped where that is asked for",
        [_user("A"), _answer("B", "b"), _user("C"), _answer("D", "d")],
        {"drop_thinking": True},
        f"{BOS}{USER}A{ASSISTANT}</think>B{EOS}{USER}C{ASSISTANT}<think>d</think>D{EOS}",
    ),
    (
        "without thinking an answer has none",
        [_user("A"), _answer("B", "b"), _user("C")],
        {"thinking": False},
        f"{BOS}{USER}A{ASSISTANT}</think>B{EOS}{USER}C{ASSISTANT}</think>",
    ),
    (
        "values that are no text are JSON",
        [_user("A"), _answer("", "t", _call("1", place="x <b> ü", size=2, tags=["ä"], on=True, none=None))],
        {},
        f'{BOS}{USER}A{ASSISTANT}<think>t</think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="look">\n'
        '<｜DSML｜parameter name="place" string="true">x <b> ü</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="size" string="false">2</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="tags" string="false">["ä"]</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="on" string="false">true</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="none" string="false">null</｜DSML｜parameter>\n'
        f"</｜DSML｜invoke>\n</｜DSML｜tool_calls>{EOS}",
    ),
    (
        "results stand in one user turn, in the order of their calls, what is said with them after",
        [_user("A"), _answer("", "", _call("1"), _call("2")), _result("2", "zwei"), _result("1", "eins"), _user("B")],
        {},
        f'{BOS}{USER}A{ASSISTANT}<think></think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="look">\n\n'
        '</｜DSML｜invoke>\n<｜DSML｜invoke name="look">\n\n</｜DSML｜invoke>\n'
        f"</｜DSML｜tool_calls>{EOS}{USER}<tool_result>eins</tool_result>\n\n<tool_result>zwei</tool_result>\n\nB"
        f"{ASSISTANT}<think>",
    ),
    (
        "a reminder stands where it is",
        [SYSTEM, {"role": "latest_reminder", "content": "Monday"}, _user("A")],
        {"thinking": False},
        f"{BOS}Be brief.<｜latest_reminder｜>Monday{USER}A{ASSISTANT}</think>",
    ),
    (
        "a task has its own mark and no thinking",
        [_user("A"), _answer("B"), {**_user("C"), "task": "action"}, _answer("Search")],
        {"thinking": False},
        f"{BOS}{USER}A{ASSISTANT}</think>B{EOS}{USER}C{ASSISTANT}</think><｜action｜>Search{EOS}",
    ),
    (
        "a title is asked for without an answer's opening",
        [_user("A"), _answer("B"), {**_user("C"), "task": "title"}],
        {"thinking": False},
        f"{BOS}{USER}A{ASSISTANT}</think>B{EOS}{USER}C<｜title｜>",
    ),
]


@pytest.mark.parametrize(("messages", "options", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_the_rules(messages: list[dict[str, Any]], options: dict[str, Any], expected: str) -> None:
    assert TEMPLATE.render(messages, options=options) == expected


def test_tools_stand_behind_the_system_s_words_or_where_they_would_be() -> None:
    assert (
        TEMPLATE.render([SYSTEM, _user("A")], [LOOK]) == f"{BOS}Be brief.{tools_text([LOOK])}{USER}A{ASSISTANT}<think>"
    )
    assert TEMPLATE.render([_user("A")], [LOOK]) == f"{BOS}{tools_text([LOOK])}{USER}A{ASSISTANT}<think>"
    developer = {"role": "developer", "content": "A", "tools": [LOOK]}
    assert TEMPLATE.render([developer]) == f"{BOS}{USER}A{tools_text([LOOK])}{ASSISTANT}<think>"


def test_with_tools_no_thinking_is_dropped() -> None:
    messages = [_user("A"), _answer("B", "b"), _user("C")]
    assert "<think>b</think>B" in TEMPLATE.render(messages, [LOOK], options={"drop_thinking": True})


ABSOLUTE = "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
BEYOND = "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"


@pytest.mark.parametrize(
    ("release", "effort", "beginning"),
    [
        *[(release, effort, "") for release in ("original", "0731") for effort in ("low", "medium")],
        *[("original", "high", ""), ("original", "xhigh", ""), ("original", "max", ABSOLUTE)],
        *[("0731", "high", ABSOLUTE), ("0731", "xhigh", ABSOLUTE), ("0731", "max", BEYOND)],
    ],
)
def test_effort_is_asked_for_at_the_very_beginning_while_thinking_in_the_release_s_words(
    tmp_path: Path, release: str, effort: str, beginning: str
) -> None:
    config = {"model_type": "deepseek_v4"} | ({"dspark_block_size": 5} if release == "0731" else {})
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = read_chat_template(tmp_path)
    assert source is not None
    template = ChatTemplate(source)
    plain = template.render([SYSTEM, _user("A")])
    text = template.render([SYSTEM, _user("A")], options={"reasoning_effort": effort})
    assert text.startswith(BOS + beginning)
    assert text.endswith(plain if not beginning else "\n\n" + plain.removeprefix(BOS))
    off = template.render([_user("A")], options={"reasoning_effort": effort, "thinking": False})
    assert off == f"{BOS}{USER}A{ASSISTANT}</think>"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> ModelText:
    """A folder as it is published: an architecture, a tokenizer, and no template."""
    folder = tmp_path_factory.mktemp("models") / "v4"
    build_deepseek_v4_text_model(folder)
    (entry,) = discover([folder.parent])
    return ModelText.read(entry)


TURNS = (
    Message(Role.SYSTEM, (Text("Be brief."),)),
    Message(Role.USER, (Text("Where?"),)),
    Message(Role.ASSISTANT, (Reasoning("I look."), Text("One moment."), ToolCall("c1", "look", '{"place": "x"}'))),
    Message(Role.USER, (ToolResult("c1", (Text("here"),)), Text("Be quick."))),
    Message(Role.ASSISTANT, (Reasoning("Found."), Text("Here."))),
    Message(Role.SYSTEM, (Text("It is late."),)),
    Message(Role.USER, (Text("And now?"),)),
)


def _request(count: int, **fields: Any) -> GenerationRequest:
    tools = (ToolDefinition("look", "Looks", {"type": "object"}),)
    return GenerationRequest("r", "v4", TURNS[:count], tools, **fields)


def test_a_folder_without_a_template_renders_by_the_rules(text: ModelText) -> None:
    prompt = text.render(_request(2))
    shown = text.renderer.tokenizer.decode(prompt.token_ids, skip_control=False)
    assert shown.startswith(f"{BOS}Be brief.\n\n## Tools")
    assert shown.endswith(f"{USER}Where?{ASSISTANT}<think>")
    assert prompt.opens_reasoning
    assert text.formats.tools == "dsml"
    assert text.formats.reasoning == "think"


@pytest.mark.parametrize("enabled", [True, False])
def test_each_turn_s_prompt_begins_with_the_one_before(text: ModelText, enabled: bool) -> None:
    prompts = [text.render(_request(count, reasoning=ReasoningOptions(enabled))) for count in (2, 4, 7)]
    assert [prompt.opens_reasoning for prompt in prompts] == [enabled] * 3
    for earlier, later in pairwise(prompts):
        assert later.token_ids[: len(earlier.token_ids)] == earlier.token_ids


@pytest.mark.parametrize("bar", ["｜", "|"])
def test_an_answer_is_parted_into_thinking_text_and_calls(text: ModelText, bar: str) -> None:
    request = _request(2)
    answer = (
        f'I look.</think>One moment.\n\n<{bar}DSML{bar}tool_calls>\n<{bar}DSML{bar}invoke name="look">\n'
        f'<{bar}DSML{bar}parameter name="place" string="true">x</{bar}DSML{bar}parameter>\n</{bar}DSML{bar}invoke>\n'
        f"</{bar}DSML{bar}tool_calls>"
    )
    decoder = text.decoder(request, text.render(request))
    deltas = [delta for token in text.renderer.tokenizer.encode(answer) for delta in decoder.feed([token])]
    deltas += decoder.finish()
    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == "I look."
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)).strip() == "One moment."
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert "".join(call.name for call in calls) == "look"
    assert json.loads("".join(call.arguments for call in calls)) == {"place": "x"}


def test_a_template_in_the_folder_goes_first(text: ModelText, tmp_path: Path) -> None:
    del text
    build_text_model(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps({"model_type": "deepseek_v4"}))
    (entry,) = discover([tmp_path])
    assert "<|im_start|>" in ModelText.read(entry).renderer.template.source


def _num_reads(monkeypatch: pytest.MonkeyPatch, messages: list[dict[str, Any]], **options: bool) -> int:
    """How often the template reads something of something."""
    environment = TEMPLATE._template.environment
    read, count = environment.getattr, 0

    def counted(value: Any, name: str) -> Any:
        nonlocal count
        count += 1
        return read(value, name)

    with monkeypatch.context() as patch:
        patch.setattr(environment, "getattr", counted)
        TEMPLATE.render(messages, options=options)
    return count


@pytest.mark.parametrize("drop_thinking", [False, True])
def test_twice_as_long_a_conversation_is_twice_the_work(monkeypatch: pytest.MonkeyPatch, drop_thinking: bool):
    """Of a thousand short messages each took the reading of all that came behind: seconds of every turn."""
    turn = [_user("x"), _answer("", "", _call("c")), _result("c", "r"), _answer("y")]
    once, twice = (_num_reads(monkeypatch, turn * count, drop_thinking=drop_thinking) for count in (20, 40))
    assert once < twice < 2.2 * once


def test_not_all_results_are_looked_through_for_each_call_and_each_of_them(monkeypatch: pytest.MonkeyPatch):
    def many(count: int) -> list[dict[str, Any]]:
        calls = [_call(f"c{n}") for n in range(count)]
        return [_user("x"), _answer("", "", *calls), *(_result(f"c{n}", "r") for n in reversed(range(count)))]

    once, twice = (_num_reads(monkeypatch, many(count)) for count in (20, 40))
    assert once < twice < 5 * once
