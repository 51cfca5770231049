# ruff: noqa: RUF001  (full-width bars are what it is about)
"""DeepSeek V4's prompts are what its published rules make of any conversation, and its answers are read back."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omlx.server.parsers.selection import Formats
from omlx.server.prompts.chat_template import ChatTemplate
from omlx.server.requests import ToolDefinition

from ..parsers.running import cut, parse
from .deepseek_v4_rules import EFFORTS, Turn, answer_text, by_the_rules, given_arguments

_SOURCE = files("omlx.templates").joinpath("architectures", "deepseek_v4.jinja").read_text("utf-8")
TEMPLATES = {"original": ChatTemplate(_SOURCE), "0731": ChatTemplate("{%- set is_0731 = true -%}" + _SOURCE)}
TASKS = ["action", "query", "authority", "domain", "title", "read_url"]
LOOK = {"name": "look", "description": "哪里", "parameters": {"properties": {"place": {}}}}
PING = {"name": "ping", "description": "", "parameters": {}}


def _message(role: str, required: dict[str, Any], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Turn]:
    return st.fixed_dictionaries({"role": st.just(role), **required}, optional=optional)


SAID = st.sampled_from(["A", "B b", "哪里", "a < b\n\nc"])
TOOLS = st.lists(st.sampled_from([{"type": "function", "function": each} for each in (LOOK, PING)]), max_size=2)
FORM = st.just({"type": "object", "title": "é"})
VALUE = st.recursive(
    SAID | st.none() | st.booleans() | st.integers(-9, 9) | st.just(0.5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "ü"]), inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(st.sampled_from(["place", "size"]), VALUE) | st.just('{"place": "no end')
FUNCTION = st.fixed_dictionaries({"name": st.sampled_from(["look", "ping"]), "arguments": ARGUMENTS})
ASKED = (
    _message("user", {"content": SAID})
    | _message("user", {"content": SAID}, task=st.sampled_from(TASKS))
    | _message("developer", {"content": SAID}, tools=TOOLS, response_format=FORM)
    | _message("latest_reminder", {"content": SAID})
)


@st.composite
def answers(draw: st.DrawFn) -> Turn:
    answer = draw(_message("assistant", {}, content=SAID | st.just(""), reasoning_content=SAID))
    functions = draw(st.lists(FUNCTION, max_size=3))
    has_ids = draw(st.booleans())
    calls = [{"type": "function", "function": function} for function in functions]
    calls = [{**call, "id": f"c{place}"} if has_ids else call for place, call in enumerate(calls)]
    return {**answer, "tool_calls": calls} if calls or draw(st.booleans()) else answer


@st.composite
def rounds(draw: st.DrawFn) -> list[Turn]:
    """An answer, the results of its calls in any order, with what is said in between and after."""
    answer = draw(answers())
    calls = draw(st.permutations(answer.get("tool_calls", ())))
    results = [{"role": "tool", "content": f"result {place}"} for place in range(len(calls))]
    results = [
        {**result, "tool_call_id": call["id"]} if "id" in call else result
        for result, call in zip(results, calls, strict=True)
    ]
    said = draw(st.lists(ASKED, max_size=3))
    at = draw(st.integers(0, len(results)))
    return [answer, *results[:at], *said, *results[at:]] if draw(st.booleans()) else [answer, *results, *said]


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    system = draw(st.lists(_message("system", {"content": SAID}, response_format=FORM), max_size=1))
    asked = draw(st.lists(ASKED, min_size=1, max_size=3))
    return [*system, *asked, *(turn for turns in draw(st.lists(rounds(), max_size=4)) for turn in turns)]


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(conversations(), TOOLS, st.booleans(), st.booleans(), st.sampled_from(["original", "0731"]), st.data())
def test_any_conversation_is_what_the_rules_make_of_it(
    messages: list[Turn], tools: list[Turn], thinks: bool, drops: bool, release: str, data: st.DataObject
) -> None:
    effort, said = data.draw(st.sampled_from(sorted(EFFORTS[release].items())))
    options = {"thinking": thinks, "drop_thinking": drops, "reasoning_effort": effort}
    expected = by_the_rules(messages, tools, thinks, drops, said)
    assert TEMPLATES[release].render(messages, tools, options=options) == expected


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(answers(), st.booleans(), st.sampled_from(["｜", "|"]), st.sampled_from([0, 1, 5]))
def test_any_answer_is_read_as_the_message_it_was_written_from(answer: Turn, thinks: bool, bar: str, size: int) -> None:
    written = answer_text(answer, thinks).removesuffix("<｜end▁of▁sentence｜>").replace("｜DSML｜", f"{bar}DSML{bar}")
    known = [ToolDefinition(each["name"], each["description"], each["parameters"]) for each in (LOOK, PING)]
    run = parse(Formats("dsml", "think"), cut(written, size), tools=known, opens_reasoning=thinks)
    assert not run.reports
    assert run.answer.reasoning == (answer.get("reasoning_content", "") if thinks else "")
    assert run.answer.text == answer.get("content", "")
    calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in run.answer.tool_calls]
    functions = [call["function"] for call in answer.get("tool_calls", ())]
    assert calls == [{**function, "arguments": given_arguments(function)} for function in functions]
