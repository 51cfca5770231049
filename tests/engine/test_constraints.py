"""What a request asks of its answer, as a grammar: which texts it accepts, and what is refused instead."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers

from omlx.server.engine.constraints import ModelMarks, build_grammar, needs_grammar
from omlx.server.engine.grammar import GrammarCompiler
from omlx.server.errors import InvalidRequest
from omlx.server.parsers.call_syntax import call_syntax
from omlx.server.parsers.selection import TOOL_FORMATS, Formats, make_parser
from omlx.server.requests import (
    Choice,
    GenerationRequest,
    Grammar,
    Json,
    JsonObject,
    JsonSchema,
    OutputFormat,
    ReasoningOptions,
    Regex,
    ToolChoice,
    ToolDefinition,
    ToolMode,
)

from ..text_model import END_OF_TURN, byte_tokenizer
from .grammar_model import request_for

MARKS = ["<think>", "</think>", "<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"]
WEATHER = ToolDefinition(
    "get_weather",
    "",
    {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]},
)
CLOCK = ToolDefinition("clock", "", {})


class Reader:
    """A model's tokens, `special` among them, and whether a grammar lets it write a text and stop there."""

    def __init__(self, folder: Path, tools: str = "hermes", reasoning: str = "none", special: bool = True) -> None:
        self._tokenizer: tokenizers.Tokenizer = byte_tokenizer()
        if special:
            self._tokenizer.add_special_tokens(MARKS)
        path = folder / "tokenizer.json"
        self._tokenizer.save(str(path))
        vocabulary = self._tokenizer.get_vocab()
        self._stops = [vocabulary[END_OF_TURN]]
        self._compiler = GrammarCompiler(path, len(vocabulary))
        ids = {mark: vocabulary[mark] for mark in MARKS} if special else {}
        self.marks = ModelMarks(Formats(tools, reasoning), ids)

    def accepts(self, request: GenerationRequest, text: str, opens_reasoning: bool = False) -> bool:
        row = self._compiler.row(build_grammar(request, self.marks, opens_reasoning), self._stops)
        for token_id in self._tokenizer.encode(text).ids:
            if not row.allowed()[token_id]:
                return False
            row.consume(token_id)
        return row.is_complete or bool(row.allowed()[self._stops[0]])


def forced(mode: ToolMode = ToolMode.REQUIRED, name: str = "", parallel: bool = True) -> GenerationRequest:
    return request_for(None, tools=(WEATHER, CLOCK), tool_choice=ToolChoice(mode, name, parallel))


def test_nothing_is_asked_of_a_plain_answer():
    assert not needs_grammar(request_for())
    assert not needs_grammar(request_for(tools=(WEATHER,)))
    assert build_grammar(request_for(), ModelMarks(Formats("hermes", "think"), {}), False) == ""


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        (JsonObject(), '{"a": [1, {}]}', "[1]"),
        (JsonSchema({"type": "array", "items": {"type": "integer"}}), "[1, 2]", '["1"]'),
        (Regex("a+/b"), "aa/b", "a/"),
        (Choice(('say "hi"', "two\nlines")), "two\nlines", "two"),
        (Grammar('start: "a" "b"?'), "ab", "b"),
        (Grammar('root ::= "a" [0-9]+'), "a42", "a"),
    ],
)
def test_an_output_format_is_what_the_answer_is(tmp_path: Path, wanted: OutputFormat, good: str, bad: str):
    reader = Reader(tmp_path)
    assert reader.accepts(request_for(wanted), good)
    assert not reader.accepts(request_for(wanted), bad)


def test_white_space_in_json_has_an_end(tmp_path: Path):
    reader = Reader(tmp_path)
    assert reader.accepts(request_for(JsonObject()), '{\n    "a":\t1\n}')
    assert not reader.accepts(request_for(JsonObject()), "{" + " " * 100 + "}")


@pytest.mark.parametrize("special", [True, False])
def test_the_answer_begins_after_the_thinking(tmp_path: Path, special: bool):
    reader = Reader(tmp_path, reasoning="think", special=special)
    wanted = request_for(Choice(("yes",)))
    assert reader.accepts(wanted, "<think>yes or {no}?</think>\n\nyes")
    assert reader.accepts(wanted, "yes")
    assert not reader.accepts(wanted, "<think>yes")
    assert reader.accepts(wanted, "hm</think>\nyes", opens_reasoning=True)
    assert not reader.accepts(wanted, "yes", opens_reasoning=True)


def test_a_model_told_not_to_think_begins_with_the_answer(tmp_path: Path):
    wanted = request_for(Choice(("yes",)), reasoning=ReasoningOptions(enabled=False))
    reader = Reader(tmp_path, reasoning="think")
    assert reader.accepts(wanted, "yes")
    assert not reader.accepts(wanted, "<think>hm</think>yes")


def test_a_bare_prompt_is_continued_without_thinking(tmp_path: Path):
    wanted = request_for(Choice(("yes",)), prompt="say")
    assert not Reader(tmp_path, reasoning="think").accepts(wanted, "<think>hm</think>yes")


def test_harmony_answers_on_its_final_channel(tmp_path: Path):
    reader = Reader(tmp_path, tools="harmony")
    thought = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    for text in ("<|channel|>final<|message|>[]", thought + "<|channel|>final<|message|>[]"):
        assert reader.accepts(request_for(JsonSchema({"const": []})), text)
    call = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Rome"}'
    assert reader.accepts(forced(), thought + call)
    assert not reader.accepts(forced(), "<|channel|>final<|message|>[]")


def test_a_required_call_is_one_of_the_tools_with_arguments_of_its_schema(tmp_path: Path):
    reader = Reader(tmp_path)
    rome = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    clock = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    for text in (rome, clock, f"{rome}\n{clock}"):
        assert reader.accepts(forced(), text)
    for text in ("Rome", "", rome.replace("Rome", "Bern"), rome.replace("get_weather", "get_news"), rome[:-12]):
        assert not reader.accepts(forced(), text)
    assert not reader.accepts(forced(parallel=False), f"{rome}\n{clock}")


def test_a_named_call_is_of_that_tool(tmp_path: Path):
    reader = Reader(tmp_path)
    clock = '<tool_call>\n{"name": "clock", "arguments": {"zone": 1}}\n</tool_call>'
    assert reader.accepts(forced(ToolMode.NAMED, "clock"), clock)
    assert not reader.accepts(forced(ToolMode.NAMED, "get_weather"), clock)


def test_beside_a_format_the_model_may_still_call_its_tools(tmp_path: Path):
    reader = Reader(tmp_path)
    either = request_for(Choice(("yes",)), tools=(CLOCK,))
    assert reader.accepts(either, "yes")
    assert reader.accepts(either, '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>')
    assert not reader.accepts(request_for(Choice(("yes",)), tools=(CLOCK,), tool_choice=ToolChoice(ToolMode.NONE)), "<")


@pytest.mark.parametrize("name", [each.name for each in TOOL_FORMATS])
def test_every_formats_parser_reads_what_its_forced_calls_look_like(name: str):
    syntax = call_syntax(name, lambda _: True)
    if syntax is None:
        return
    call = syntax.before_name + "clock" + syntax.before_arguments + '{"a": 1}' + syntax.after_arguments
    text = syntax.opening + call + syntax.closing
    parser = make_parser(Formats(name, "none"), (CLOCK,), new_id=lambda: "id")
    deltas = parser.feed(text) + parser.finish()
    assert "".join(getattr(delta, "name", "") for delta in deltas) == "clock"
    assert "".join(getattr(delta, "arguments", "") for delta in deltas) == '{"a": 1}'
    assert not any(hasattr(delta, "text") for delta in deltas)


def test_a_format_without_json_is_forced_to_begin_a_call_and_the_log_says_that_is_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    reader = Reader(tmp_path, tools="qwen3_coder")
    assert reader.accepts(forced(), "<tool_call>\n<function=clock>\n</function>\n</tool_call>")
    assert not reader.accepts(forced(), "no call")
    assert "not held to the tool's schema" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "param", "words"),
    [
        (JsonSchema({"type": "banana"}, "f"), "f", "banana"),
        (JsonSchema({"type": "string", "pattern": "(["}, "f"), "f", "unclosed"),
        (JsonSchema({"type": "string", "pattern": "(?=a)b"}, "f"), "f", "look-around"),
        (JsonSchema({"type": "object", "not": {}}, "f"), "f", "not"),
        (JsonSchema({"$ref": "http://example.com/schema"}, "f"), "f", "example.com"),
        (JsonSchema({"$ref": "#"}, "f"), "f", "no text can satisfy it"),
        (JsonSchema({"required": ["a"], "properties": {"a": False}, "type": "object"}, "f"), "f", "unsatisfiable"),
        (JsonSchema({"type": "integer", "multipleOf": 999983}, "f"), "f", "remainders"),
        (
            JsonSchema({"allOf": [{"type": "integer", "multipleOf": each} for each in (7, 11, 13, 17)]}, "f"),
            "f",
            "2431 remainders",
        ),
        (JsonSchema({"type": "number", "multipleOf": 0.12345}, "f"), "f", "remainders"),
        (JsonSchema({"properties": {f"p{number}": {} for number in range(5000)}}, "f"), "f", "5000 properties"),
        (Grammar('start: %json {"multipleOf": 999983}', "f"), "f", "schema of its own"),
        (JsonSchema({"enum": ["x" * 100 + str(number) for number in range(10_000)]}, "f"), "f", "longer than"),
        (Regex("([", "f"), "f", "unclosed"),
        (Grammar("start: missing", "f"), "f", "missing"),
        (Grammar("start: " + "(" * 60_000 + '"a"' + ")" * 60_000, "f"), "f", "too deeply nested"),
        (Grammar("root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000, "f"), "f", "nested too deeply"),
        (Grammar('root ::= "a"\n' * 3000, "f"), "f", "rules"),
        (Grammar('root ::= "a', "f"), "f", "cannot"),
        (Grammar("start: <[5]> <|im_end|>", "f"), "f", "special token"),
        (Regex("(a{1000}){1000}", "f"), "f", "1000000 characters"),
        (Regex("(?:[a-z)]|\\d){1,60}" * 200, "f"), "f", "24000 characters"),
        (Regex(".*" * 500, "f"), "f", "too complex; ask for a simpler one"),
        (Grammar('start: "' + "a" * 60_000 + '"', "f"), "f", "60000 characters"),
        (Grammar('root ::= "' + "a" * 60_000 + '"', "f"), "f", "60000 characters"),
        (Grammar("start: A{1000}\nA: /b{1000}/ | /c{9500}/", "f"), "f", "10500 characters"),
        (Grammar("start: A\nA: B{1000}\nB: /b{1000}/", "f"), "f", "too complex"),
        (JsonSchema({"type": "string", "pattern": "(a{1000}){1000}"}, "f"), "f", "1000000 characters"),
        (JsonSchema({"enum": ["a", "b" * 30_000]}, "f"), "f", "30000 characters"),
        (Regex("a{"), "response_format", "cannot be followed"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_field_and_the_reason(
    tmp_path: Path, wanted: OutputFormat, param: str, words: str
):
    with pytest.raises(InvalidRequest, match=words) as refused:
        build_grammar(request_for(wanted), Reader(tmp_path).marks, False)
    assert refused.value.param == param
    assert len(str(refused.value)) < 500


def test_a_choice_may_be_among_a_thousand(tmp_path: Path):
    options = tuple(f"the one that is called {number}" for number in range(1024))
    assert Reader(tmp_path).accepts(request_for(Choice(options)), options[-1])
    assert not Reader(tmp_path).accepts(request_for(Choice(options)), "the one that is called 2000")


def test_a_choice_of_schemas_is_followed_whatever_it_is_called(tmp_path: Path):
    wanted = request_for(JsonSchema({"oneOf": [{"const": 1}, {"type": "object", "properties": {"a": {"const": 2}}}]}))
    assert Reader(tmp_path).accepts(wanted, "1")
    assert Reader(tmp_path).accepts(wanted, '{"a": 2}')


def test_a_format_nobody_knows_is_an_annotation(tmp_path: Path):
    inner: dict[str, Json] = {"const": {"format": "int64"}, "format": "odd"}
    wanted = request_for(JsonSchema({"anyOf": [{"type": "integer", "format": "int64"}, inner]}))
    reader = Reader(tmp_path)
    assert reader.accepts(wanted, "7")
    assert reader.accepts(wanted, '{"format": "int64"}')
    assert not reader.accepts(request_for(JsonSchema({"type": "string", "format": "date"})), '"soon"')


@pytest.mark.parametrize("parameters", [{"type": "banana"}, {"properties": {"a": {"pattern": "(["}}}])
def test_a_forced_tool_with_a_broken_schema_is_refused_by_name(tmp_path: Path, parameters: dict[str, Json]):
    tool = ToolDefinition("broken", "", parameters)
    request = request_for(tools=(tool,), tool_choice=ToolChoice(ToolMode.REQUIRED))
    with pytest.raises(InvalidRequest, match="tool 'broken'") as refused:
        build_grammar(request, Reader(tmp_path).marks, False)
    assert refused.value.param == "tools"


def test_what_a_tools_schema_says_beyond_a_grammars_reach_is_left_to_the_tool(tmp_path: Path):
    schema: dict[str, Json] = {
        "properties": {"a": {"type": "string", "format": "uint", "not": {"const": "x"}}, "b": {"multipleOf": 1e9}}
    }
    tool = ToolDefinition("t", "", {**schema, "x-guidance": {"whitespace_pattern": "(["}})
    request = request_for(tools=(tool,), tool_choice=ToolChoice(ToolMode.REQUIRED))
    text = '<tool_call>\n{"name": "t", "arguments": {"a": "b"}}\n</tool_call>'
    assert Reader(tmp_path).accepts(request, text)
