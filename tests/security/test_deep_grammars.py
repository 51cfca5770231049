"""Rules and references without end, one below the other, and patterns joined without end: refused or compiled, and no
process dies of its stack or takes all of the memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from omlx.server.engine.constraints import ModelMarks, build_grammar
from omlx.server.engine.grammar import GrammarCompiler
from omlx.server.errors import InvalidRequest
from omlx.server.parsers.selection import Formats
from omlx.server.requests import (
    GenerationRequest,
    Grammar,
    Json,
    JsonSchema,
    Message,
    Role,
    Text,
    ToolChoice,
    ToolDefinition,
    ToolMode,
)

from ..text_model import byte_tokenizer

MARKS = ModelMarks(Formats("hermes", "none"), {})


def rules(count: int, rule: str = "a{}: a{}") -> Grammar:
    chain = [rule.format(number, number + 1) for number in range(count)]
    return Grammar("\n".join(["start: a0", *chain, f'a{count}: "x"']))


def definitions(count: int, depth: int = 1) -> dict[str, Json]:
    """As many, each an array of arrays `depth` deep of the next one."""
    defined: dict[str, Json] = {"$ref": "#/d0", f"d{count}": {"type": "string"}}
    for number in range(count):
        inner: Json = {"$ref": f"#/d{number + 1}"}
        for _ in range(depth):
            inner = {"items": inner}
        defined[f"d{number}"] = inner
    return defined


USER = (Message(Role.USER, (Text("x"),)),)


def grammar(text: Grammar) -> GenerationRequest:
    return GenerationRequest("r", "m", USER, output_format=text)


def asked(schema: dict[str, Json]) -> GenerationRequest:
    return GenerationRequest("r", "m", USER, output_format=JsonSchema(schema, "response_format"))


def schema(count: int, depth: int = 1) -> GenerationRequest:
    return asked(definitions(count, depth))


def forced(schema: dict[str, Json]) -> GenerationRequest:
    tool = ToolDefinition("f", "", schema)
    return GenerationRequest("r", "m", USER, tools=(tool,), tool_choice=ToolChoice(ToolMode.REQUIRED, ""))


PATTERNS = [f".*{letter}.*" for letter in "abcdefghijklmnopqrstuvwx"]


def nested(keyword: str, patterns: list[str]) -> dict[str, Json]:
    """Each has to hold beside the next one, which is the only choice."""
    schema: dict[str, Json] = {"type": "string"}
    for pattern in patterns:
        schema = {"type": "string", "pattern": pattern, keyword: [schema]}
    return schema


JOINED: dict[str, Json] = {"allOf": [{"type": "string", "pattern": pattern} for pattern in PATTERNS]}
REFERRED: dict[str, Json] = {
    "$ref": "#/d0",
    **{f"d{n}": {"$ref": f"#/d{n + 1}", "pattern": pattern} for n, pattern in enumerate(PATTERNS)},
    f"d{len(PATTERNS)}": {"type": "string"},
}
APART_BY_CHOICE: dict[str, Json] = {
    "$defs": {"name": {"type": "string", "pattern": "a+"}},
    "type": "object",
    "properties": {
        f"p{n}": {
            "description": "another one, or none",
            "anyOf": [{"$ref": "#/$defs/name", "title": "a name"}, {"allOf": [{"pattern": pattern}], "default": "x"}],
        }
        for n, pattern in enumerate(PATTERNS)
    },
}
APART: dict[str, Json] = {"properties": {f"p{n}": {"pattern": pattern} for n, pattern in enumerate(PATTERNS)}}

REQUESTS: dict[str, tuple[GenerationRequest, str]] = {
    "rules": (grammar(rules(5000)), ""),
    "rules in brackets": (grammar(rules(1000, "a{}: " + "(" * 20 + "a{}" + ")" * 20)), ""),
    "definitions": (schema(900), ""),
    "many definitions": (schema(3000), "references"),
    "deep definitions": (schema(200, 40), "references"),
    "joined patterns": (grammar(Grammar("start: A\nA: " + " & ".join(f"/{each}/" for each in PATTERNS))), "patterns"),
    "a few joined patterns": (grammar(Grammar("start: A\nA: /.*a.*/ & /.*b&&&&&&&&&&&&&.*/")), ""),
    "an open pattern": (grammar(Grammar("start: /" + "\\/" * 32_000)), "characters"),
    "an open text": (grammar(Grammar('start: "' + '\\"' * 32_000)), "characters"),
    "a comment": (grammar(Grammar(f"// {'&' * 20_000}\nstart: /a/")), ""),
    "patterns of allOf": (asked(JOINED), "patterns"),
    "patterns of references": (asked(REFERRED), "patterns"),
    "patterns of nested choices": (asked(nested("anyOf", PATTERNS)), "patterns"),
    "patterns of nested single choices": (asked(nested("oneOf", PATTERNS)), "patterns"),
    "patterns of one choice": (asked({"oneOf": [{"pattern": each} for each in PATTERNS]}), ""),
    "patterns apart, by choice": (asked(APART_BY_CHOICE), ""),
    "patterns of a tool": (forced(JOINED), "patterns"),
    "patterns apart": (asked({"type": "object", **APART}), ""),
    "definitions of a tool": (forced(definitions(3000)), "references"),
}


def compile_one(name: str, folder: Path) -> None:
    """In both processes' ways, and on a thread, whose stack is the smaller one of macOS."""
    request, words = REQUESTS[name]
    try:
        text = build_grammar(request, MARKS, opens_reasoning=False)
    except InvalidRequest as error:
        print("refused" if words and words in str(error) else error)
        return
    row = GrammarCompiler(folder / "tokenizer.json", 300).row(text, [1])
    print("compiled" if row.allowed().any() else "accepts nothing")


@pytest.mark.parametrize("name", REQUESTS)
def test_what_would_take_a_process_with_it_is_refused_or_compiled(name: str, tmp_path: Path) -> None:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    command = [sys.executable, "-m", __name__, name, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("refused\n" if REQUESTS[name][1] else "compiled\n")


if __name__ == "__main__":
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # what is not refused may take no more
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    thread = Thread(target=compile_one, args=(sys.argv[1], Path(sys.argv[2])))
    thread.start()
    thread.join()
