"""What the one parser does around the formats: stop strings, tool choice, streaming, reports, ids."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.server.errors import SettingsError
from omlx.server.events import ReasoningDelta, TextDelta, ToolCallDelta
from omlx.server.parsers.calls import new_call_id
from omlx.server.parsers.selection import RAW, TOOL_FORMATS, Formats, choose_formats, make_parser
from omlx.server.parsers.stop_strings import StopStrings
from omlx.server.requests import ToolCall, ToolChoice, ToolMode

from .running import TOOLS, cut, parse

HERMES = Formats("hermes", "think")
CALL = '<tool_call>{"name": "ping", "arguments": {}}</tool_call>'


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
def test_a_stop_string_ends_the_answer_wherever_it_is_cut(size: int) -> None:
    run = parse(HERMES, cut("One. Two ENDING three", size), stop=["END", "never"])
    assert run.answer.text == "One. Two "
    assert run.stop_sequence == "END"


def test_of_two_stop_strings_the_one_completed_first_wins() -> None:
    assert parse(HERMES, cut("abcdef", 1), stop=["bcde", "cd"]).stop_sequence == "cd"


def test_the_beginning_of_a_stop_string_that_never_ends_is_text() -> None:
    assert parse(HERMES, ["So EN"], stop=["END"]).answer.text == "So EN"


@settings(deadline=None, database=None, max_examples=200)
@given(
    st.lists(st.text("abc", max_size=3)),
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_stop_strings_lose_nothing_and_let_none_through(pieces: list[str], stops: list[str]) -> None:
    stop_strings = StopStrings(stops)
    passed = "".join([stop_strings.feed(piece) for piece in pieces] + [stop_strings.finish()])
    whole = "".join(pieces)
    assert whole.startswith(passed + stop_strings.found)
    assert not any(stop in passed for stop in stops)
    assert stop_strings.found or passed == whole


def test_text_is_passed_on_at_once_but_for_what_may_become_a_mark() -> None:
    parser = make_parser(HERMES, TOOLS)
    assert parser.feed("Hello <") == [TextDelta("Hello")]
    assert parser.feed("b>") == [TextDelta(" <b>")]


def test_white_space_waits_only_where_a_call_or_reasoning_may_follow() -> None:
    without_thinking = Formats("hermes", "implied")
    plain, with_tools = make_parser(without_thinking), make_parser(without_thinking, TOOLS)
    assert [plain.feed(piece) for piece in ("a", " ", "\n\n", "b")] == [[TextDelta(t)] for t in ("a", " ", "\n\n", "b")]
    assert [with_tools.feed(piece) for piece in ("a", " ", "b")] == [[TextDelta("a")], [], [TextDelta(" b")]]
    assert [make_parser(HERMES).feed(piece) for piece in (" ", "a ")] == [[], [TextDelta("a")]]


BEFORE_A_STRING = {
    "hermes": '<tool_call>{"name": "get_weather", "arguments": {"days": 3, "city": "',
    "qwen3_coder": "<tool_call><function=get_weather><parameter=days>3</parameter><parameter=city>\n",
    "glm": "<tool_call>get_weather<arg_key>days</arg_key><arg_value>3</arg_value><arg_key>city</arg_key><arg_value>",
    "minimax_m2": '<minimax:tool_call><invoke name="get_weather"><parameter name="days">3</parameter>'
    '<parameter name="city">',
    "dsml": '<|DSML|tool_calls><|DSML|invoke name="get_weather"><|DSML|parameter name="days">3</|DSML|parameter>'
    '<|DSML|parameter name="city">',
    "gemma4": '<|tool_call>call:get_weather{days:3,city:<|"|>',
    "function_gemma": "<start_function_call>call:get_weather{days:3,city:<escape>",
    "pythonic": '<|python_start|>[get_weather(days=3, city="',
    "harmony": '<|channel|>commentary to=functions.get_weather<|message|>{"days": 3, "city": "',
    "kimi_k2": '<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"days": 3, "city": "',
    "deepseek_v3": "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>get_weather"
    '<\uff5ctool\u2581sep\uff5c>{"days": 3, "city": "',
    "mistral": '[TOOL_CALLS]get_weather[ARGS]{"days": 3, "city": "',
    "llama_json": '{"name": "get_weather", "parameters": {"days": 3, "city": "',
    "longcat": "<longcat_tool_call>get_weather<longcat_arg_key>days</longcat_arg_key>"
    "<longcat_arg_value>3</longcat_arg_value><longcat_arg_key>city</longcat_arg_key><longcat_arg_value>",
    "muse_spark": '<atem:function_calls><atem:invoke name="get_weather"><atem:parameter name="days">3</atem:parameter>'
    '<atem:parameter name="city">',
    "minicpm5": '<function name="get_weather"><param name="days">3</param><param name="city">',
}


@pytest.mark.parametrize("tool_format", [each.name for each in TOOL_FORMATS])
def test_a_long_argument_streams_as_it_is_decoded_though_a_number_stands_before_it(tool_format: str) -> None:
    parser = make_parser(Formats(tool_format, "none"), TOOLS)
    named, *begun = parser.feed(BEFORE_A_STRING[tool_format] + "some words ")
    assert isinstance(named, ToolCallDelta)
    assert named.name == "get_weather"
    assert '"days": 3, "city": "' in "".join(
        each.arguments for each in [named, *begun] if isinstance(each, ToolCallDelta)
    )
    for _ in range(5):
        (delta,) = parser.feed("some words ")
        assert isinstance(delta, ToolCallDelta)
        assert delta.arguments == "some words "
        assert not delta.name


def test_the_name_of_a_call_comes_before_its_arguments() -> None:
    parser = make_parser(HERMES, TOOLS, new_id=lambda: "call_1")
    assert parser.feed('<tool_call>{"name": "ping"') == [ToolCallDelta(0, "call_1", "ping")]


def test_reasoning_streams_too() -> None:
    parser = make_parser(HERMES, TOOLS, opens_reasoning=True)
    assert parser.feed("I think") == [ReasoningDelta("I think")]


def test_without_tools_a_call_is_text_without_its_marks() -> None:
    inner = CALL.removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert parse(HERMES, ["Write " + CALL], tools=()).answer.text == "Write " + inner


def test_a_bare_continuation_is_told_as_it_was_written() -> None:
    text = "<think>a</think> " + CALL + "<tool_response>"
    assert parse(Formats(RAW, "none"), cut(text, 1), tools=()).answer.text == text


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>a</think> b", "a", "b"),
        ("\n<think>a <think> b</think>c </think> d", "a  b", "c  d"),
        ("To think, write <think> and </think>.", "", "To think, write  and ."),
        ("<think>never ended", "never ended", ""),
    ],
)
def test_thinking_that_no_template_tells_of_begins_the_answer(size: int, text: str, thought: str, said: str) -> None:
    answer = parse(Formats("hermes", "implied"), cut(text, size)).answer
    assert (answer.reasoning, answer.text) == (thought, said)


def test_a_tools_answer_that_the_model_makes_up_has_no_marks() -> None:
    assert parse(HERMES, ["a <tool_response>b</tool_response> c"]).answer.text == "a b c"


@pytest.mark.parametrize("size", [0, 1, 3])
def test_stop_strings_end_the_text_and_no_thinking_and_no_call(size: int) -> None:
    call = '<tool_call>{"name": "write", "arguments": {"path": "END"}}</tool_call>'
    formats = Formats("hermes", "think")
    run = parse(formats, cut("<think>The END?</think>Now E" + call + "ND. END. More.", size), stop=["END"])
    assert (run.answer.reasoning, run.answer.text, run.stop_sequence) == ("The END?", "Now END. ", "END")
    assert [each.arguments for each in run.answer.tool_calls] == ['{"path": "END"}']
    run = parse(formats, cut("A END " + call, size), stop=["END"])
    assert run.answer.segments == (TextDelta("A "),)


def test_control_tokens_do_not_come_out_even_without_tools() -> None:
    assert parse(Formats("kimi_k2", "none"), ["Hm.<|tool_call_begin|>ping"], tools=()).answer.text == "Hm.ping"


def test_thinking_that_has_no_end_mark_is_text() -> None:
    assert parse(Formats("hermes", "none"), ["Hm."], opens_reasoning=True).answer.text == "Hm."


def test_a_call_that_was_forbidden_is_dropped_and_reported() -> None:
    run = parse(HERMES, ["Hm. " + CALL], tool_choice=ToolChoice(ToolMode.NONE))
    assert run.answer.segments == (TextDelta("Hm."),)
    assert run.reports == ("the model called a tool though tool_choice is none; the call is dropped",)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[TOOL_CALLS]ping[ARGS]{}", "mistral"),
        ("<function=ping>\n</function>", "qwen3_coder"),
        ("<|channel|>", "harmony"),
    ],
)
def test_a_call_in_another_format_is_named_in_the_log(text: str, name: str) -> None:
    reports = parse(HERMES, cut("Well, " + text, 1)).reports
    assert f"model wrote format {name}, parser is hermes" in reports


def test_a_malformed_answer_is_reported_once_and_without_its_words() -> None:
    run = parse(HERMES, ["<tool_call>secret</tool_call>" * 3])
    assert run.reports == ("malformed hermes output: an envelope holds no call",)


def test_ids_are_letters_and_digits_but_for_the_one_mark_that_clients_may_strip() -> None:
    assert re.fullmatch(r"call_[A-Za-z0-9]{24}", new_call_id())
    assert new_call_id() != new_call_id()


def test_halves_of_characters_in_arguments_do_not_come_out() -> None:
    text = '<tool_call>{"name": "ping", "arguments": "{\\"a\\": \\"\\ud800\\"}"}</tool_call>'
    (call,) = parse(HERMES, [text]).answer.segments
    assert isinstance(call, ToolCall)
    call.arguments.encode()


@pytest.mark.parametrize(
    ("template", "formats"),
    [
        ("<tool_call> {{ tool_call.name }} <think>", Formats("hermes", "think")),
        ("<tool_call>\n<function=a>\n<parameter=b>", Formats("qwen3_coder", "implied")),
        ("<tool_call>{name}<arg_key> </think>", Formats("glm", "think")),
        ("<longcat_tool_call><longcat_arg_key><longcat_think>", Formats("longcat", "longcat")),
        ("<minimax:tool_call><think>", Formats("minimax_m2", "think")),
        ("<\uff5cDSML\uff5ctool_calls><think>", Formats("dsml", "think")),
        ("{% set dsml_token = '|DSML|' %}", Formats("dsml", "implied")),
        ("<|tool_calls_section_begin|>", Formats("kimi_k2", "implied")),
        ("<atem:function_calls>", Formats("muse_spark", "implied")),
        ('<function name="f"><param name="p"> <think>', Formats("minicpm5", "think")),
        ("<\uff5ctool\u2581calls\u2581begin\uff5c>", Formats("deepseek_v3", "implied")),
        ("[TOOL_CALLS] [THINK]", Formats("mistral", "magistral")),
        ("<|python_tag|>", Formats("llama_json", "implied")),
        ("<|tool_list_start|>", Formats("pythonic", "implied")),
        ("<|tool_call><tool_call|><|channel>", Formats("gemma4", "channel")),
        ("<start_function_call>", Formats("function_gemma", "implied")),
        ("<|start|><|channel|>analysis<|message|>", Formats("harmony", "implied")),
        ("<|im_start|>", Formats("hermes", "implied")),
    ],
)
def test_formats_are_told_from_the_template(template: str, formats: Formats) -> None:
    assert choose_formats(template) == formats


def test_a_template_that_renders_no_tools_is_asked_for_hermes() -> None:
    assert choose_formats("[TOOL_CALLS] <think>", renders_tools=False) == HERMES


def test_settings_override_the_template() -> None:
    overrides = {"tool_format": "mistral", "reasoning_format": "none"}
    assert choose_formats("<tool_call> <think>", overrides) == Formats("mistral", "none")


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"tool_format 'yaml' is not known; choose one of .*hermes"):
        choose_formats("", {"tool_format": "yaml"})
