"""What a request's answer must look like, as one grammar for the engine.

`output_format` and a forced `tool_choice` become a text in llguidance's form of Lark, in which the model's
own thinking may come first. Whatever the client brought is compiled here once, with a tokenizer of bytes, so
that a schema which cannot be followed is refused before the engine hears of the request.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper, regex_to_lark
from llguidance.gbnf_to_lark import any_to_lark

from ..errors import InvalidRequest
from ..parsers.call_syntax import CallSyntax, call_opener, call_syntax, thinking_syntax
from ..parsers.selection import Formats
from ..requests import (
    Choice,
    GenerationRequest,
    Grammar,
    Json,
    JsonObject,
    JsonSchema,
    OutputFormat,
    Regex,
    ToolDefinition,
    ToolMode,
)
from .deep_stack import on_deep_stack
from .grammar_limits import MAX_MESSAGE, complaint, grammar_limits
from .schema_cost import (
    grammar_size,
    pattern_size,
    too_dear,
    too_deep,
    too_joined,
    too_joined_schema,
    too_long,
    without_multiples,
    without_unknown_formats,
)

logger = logging.getLogger(__name__)

_MAX_GRAMMAR = 512 * 1024
"""Characters of schemas, patterns and names in one grammar."""
_MAX_GBNF_RULES = 256
_NUM_TRIED_BYTES = 3
"""Some grammars are found to be too complex only where an answer has begun."""
_WHITESPACE = r"[\x20\x0A\x0D\x09]{1,32}"
"""Enough to indent by; a model that has lost its way must not go on with white space for ever."""
_ANY_TEXT = "/(?s:.*)/"
_ANY_TOKENS = "<[*]>*"
_SPACE = r"/\s{0,8}/"
_OPTIONS = "x-guidance"
"""The schema member llguidance takes its options from. It is ours, never the client's."""


@dataclass(frozen=True, slots=True)
class ModelMarks:
    """What a grammar needs to know of a model: its formats, and its special tokens by their text."""

    formats: Formats
    special_ids: dict[str, int] = field(repr=False)


def needs_grammar(request: GenerationRequest) -> bool:
    return request.output_format is not None or _forces_call(request)


def build_grammar(request: GenerationRequest, marks: ModelMarks, opens_reasoning: bool) -> str:
    """The grammar of the request's answer, "" where anything goes.

    Raises `InvalidRequest`, with the field, where a schema, a pattern or a grammar cannot be followed.
    """
    rules = _Rules(marks)
    if _forces_call(request):
        answer = rules.calls(request)
    elif request.output_format is None:
        return ""
    else:
        answer = rules.output(request.output_format)
        if request.tools and request.tool_choice.mode is ToolMode.AUTO:
            answer = f"({answer} | {rules.calls(request)})"
    if request.prompt is None:
        rules.think_first(request, opens_reasoning)
    return rules.text(answer)


def _forces_call(request: GenerationRequest) -> bool:
    forced = request.tool_choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)
    return forced and bool(request.tools) and request.prompt is None


class _Rules:
    """Collects the rules of one grammar."""

    def __init__(self, marks: ModelMarks) -> None:
        self._marks = marks
        self._rules: list[str] = []
        self._grammars: list[dict[str, Json]] = []
        self._thinking = ""
        self._before_answer = ""

    def text(self, answer: str) -> str:
        lark = "\n".join([f"start: {self._thinking} {self._before_answer} {answer}", *self._rules])
        if sum(map(len, self._rules)) > _MAX_GRAMMAR:
            raise InvalidRequest(f"the schemas are longer than {_MAX_GRAMMAR} characters together", "tools")
        return json.dumps({"grammars": [{"name": "main", "lark_grammar": lark}, *self._grammars]})

    def output(self, wanted: OutputFormat) -> str:
        grammar = _answer_grammar(wanted)
        _check(json.dumps({"grammars": [grammar]}), wanted.param or "response_format")
        self._grammars.append({**grammar, "name": "answer"})
        return "@answer"

    def calls(self, request: GenerationRequest) -> str:
        """A rule for one call or more of the request's tools, as the model writes them."""
        choice = request.tool_choice
        tools = [tool for tool in request.tools if choice.mode is not ToolMode.NAMED or tool.name == choice.name]
        name = self._marks.formats.tools
        syntax = call_syntax(name, self._marks.special_ids.__contains__)
        if syntax is None:
            logger.warning("calls of format %s are forced to begin, but not held to the tool's schema", name)
            return f"{self.literal(call_opener(self._marks.formats))} {_ANY_TOKENS}"
        _check_cost([_tool_schema(tool) for tool in tools], "tools", "the tools together: ")
        for number, tool in enumerate(tools):
            self._rules.append(f"call{number}: {self._call(syntax, tool)}")
        self._rules.append("call: " + " | ".join(f"call{number}" for number in range(len(tools))))
        more = "" if syntax.only_one or not choice.parallel else f"({self.literal(syntax.separator)} call)*"
        return " ".join([self.literal(syntax.opening), "call", more, self.literal(syntax.closing)])

    def _call(self, syntax: CallSyntax, tool: ToolDefinition) -> str:
        subject = f"tool {tool.name!r}: "
        _check_shape(tool.parameters, "tools", subject)
        schema = json.dumps(_tool_schema(tool), ensure_ascii=False)
        _check(json.dumps({"grammars": [{"lark_grammar": f"start: %json {schema}"}]}), "tools", subject)
        before = syntax.before_name + syntax.spell(tool.name) + syntax.before_arguments
        return f"{self.literal(before)} %json {schema} {self.literal(syntax.after_arguments)}"

    def think_first(self, request: GenerationRequest, opens_reasoning: bool) -> None:
        """Let the answer begin after the thinking: the one the prompt has opened, or one the model opens."""
        syntax = thinking_syntax(self._marks.formats)
        if syntax is None:
            return
        self._before_answer = "" if _forces_call(request) else self.literal(syntax.before_text)
        if request.reasoning.enabled is False and not opens_reasoning and not syntax.before_text:
            return
        if any(syntax.end.startswith(mark) for mark in self._marks.special_ids):
            self._rules.append(f"thoughts: {_ANY_TEXT} {self.literal(syntax.end)} {_SPACE}")
        else:
            self._rules.append(f"thoughts: unmarked {_SPACE}\nunmarked[suffix={_quoted(syntax.end)}]: {_ANY_TEXT}")
        more = f"({self.literal(syntax.start)} thoughts)*"
        self._thinking = f"thoughts {more}" if opens_reasoning else more

    def literal(self, text: str) -> str:
        """`text` as it stands, the special tokens in it by their ids."""
        parts: list[str] = []
        while text:
            found = [(text.find(mark), -len(mark), mark) for mark in self._marks.special_ids if mark in text]
            position, _, mark = min(found, default=(len(text), 0, ""))
            if position:
                parts.append(_quoted(text[:position]))
            if mark:
                parts.append(f"<[{self._marks.special_ids[mark]}]>")
            text = text[position + len(mark) :]
        return " ".join(parts)


def _answer_grammar(wanted: OutputFormat) -> dict[str, Json]:
    match wanted:
        case JsonObject():
            return {"json_schema": _with_options({"type": "object"}, lenient=False)}
        case JsonSchema(schema, param):
            _check_cost(schema, param or "response_format")
            _check_shape(schema, param or "response_format")
            return {"json_schema": _with_options(without_unknown_formats(schema), lenient=False)}
        case Regex(pattern):
            _refuse(too_long(pattern_size(pattern)), wanted.param or "structured_outputs.regex")
            return {"lark_grammar": f"start: /{regex_to_lark(pattern, 'd')}/"}
        case Choice(options):
            return {"lark_grammar": "start: CHOICE\nCHOICE: " + " | ".join(_quoted(text) for text in options)}
        case Grammar(text):
            return {"lark_grammar": _lark(text, wanted.param or "response_format")}


def _lark(text: str, param: str) -> str:
    """Lark as it is; GBNF, which llama.cpp's clients write, is translated.

    The translator's time grows with the square of the number of rules.
    """
    if text.count("::=") > _MAX_GBNF_RULES:
        raise InvalidRequest(f"the grammar has more than {_MAX_GBNF_RULES} rules; write it in Lark", param)
    if "%json" in text:
        raise InvalidRequest("the grammar holds a JSON schema; send that as a schema of its own", param)
    _refuse(too_long(grammar_size(text)) or too_joined(text), param)
    try:
        return any_to_lark(text)
    except Exception as error:  # it raises bare ones, RecursionError for a nest of brackets
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:MAX_MESSAGE]
        raise InvalidRequest(f"the grammar cannot be read: {reason}", param) from None


def _with_options(schema: dict[str, Json], lenient: bool) -> dict[str, Json]:
    return {**schema, _OPTIONS: {"whitespace_pattern": _WHITESPACE, "coerce_one_of": True, "lenient": lenient}}


def _tool_schema(tool: ToolDefinition) -> dict[str, Json]:
    """Tools bring schemas of all sorts, and judge their arguments themselves: what is out of reach is left out."""
    return _with_options(without_multiples({"type": "object", **tool.parameters}), lenient=True)


def _check_cost(schema: Json, param: str, subject: str = "") -> None:
    if len(json.dumps(schema, ensure_ascii=False)) > _MAX_GRAMMAR:  # before it is looked at character by character
        raise InvalidRequest(f"{subject}longer than {_MAX_GRAMMAR} characters; send a smaller one", param)
    _refuse(too_dear(schema), param, subject)


def _check_shape(schema: Json, param: str, subject: str = "") -> None:
    _refuse(too_deep(schema) or too_joined_schema(schema), param, subject)


def _refuse(reason: str, param: str, subject: str = "") -> None:
    if reason:
        raise InvalidRequest(f"{subject}cannot be followed: {reason}", param)


def _check(grammar: str, param: str, subject: str = "") -> None:
    """Raise where the grammar cannot be compiled, or accepts nothing."""
    if len(grammar) > _MAX_GRAMMAR:
        raise InvalidRequest(f"{subject}longer than {_MAX_GRAMMAR} characters; send a smaller one", param)
    matcher = on_deep_stack(lambda: LLMatcher(_byte_tokenizer(), grammar, log_level=0, limits=grammar_limits()))
    for _ in range(_NUM_TRIED_BYTES):
        if matcher.is_error() or matcher.is_stopped():
            break
        allowed = int.from_bytes(matcher.compute_bitmask(), "little")
        if not matcher.is_error() and allowed:
            matcher.consume_token((allowed & -allowed).bit_length() - 1)
    if matcher.is_error():
        raise InvalidRequest(f"{subject}cannot be followed: {complaint(matcher.get_error())}", param)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class _Bytes:
    """A tokenizer of single bytes, in the form llguidance asks for."""

    eos_token_id = 256
    bos_token_id = None
    tokens: tuple[bytes, ...] = (*(bytes([value]) for value in range(256)), b"<end>")
    special_token_ids: tuple[int, ...] = (256,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def _byte_tokenizer() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()), slices=[])
