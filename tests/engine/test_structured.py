"""Answers of a random model at temperature 1 are what was asked for, and nobody else's answer changes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import mlx.core as mx
import msgspec
import numpy as np
import pytest

from omlx.server.engine.decode_layout import PaddedLayout, SerialLayout
from omlx.server.engine.grammar import GrammarCompiler
from omlx.server.engine.messages import Submit
from omlx.server.engine.sampling import RowSampler, sample
from omlx.server.errors import InvalidRequest
from omlx.server.events import FinishReason
from omlx.server.requests import Choice, Grammar, Json, JsonSchema, Regex, SamplingParams

from .grammar_model import Writer, grammar_of

SCHEMAS: list[dict[str, Json]] = [
    {"type": "integer", "minimum": -5, "maximum": 120},
    {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    {"type": "boolean"},
    {"type": "null"},
    {"enum": ["red", "green", 3, None]},
    {"const": {"a": [1, 2]}},
    {"type": "string", "maxLength": 12},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    {"type": "string", "format": "date"},
    {"type": "array", "items": {"type": "integer", "maximum": 9, "minimum": 0}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"enum": ["x"]}], "items": False, "minItems": 2},
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "deep": {"$ref": "#/$defs/deep"}},
        "required": ["deep"],
        "additionalProperties": False,
        "$defs": {
            "deep": {
                "type": "object",
                "properties": {"on": {"type": "boolean"}, "list": {"type": "array", "items": {"const": 1}}},
                "required": ["on"],
                "additionalProperties": False,
            }
        },
    },
    {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "null"}, "maxItems": 3}]},
]


BOUNDED = [0, 2, 3, 4, 6, 7, 8]
"""Schemas of texts that end by themselves: a random model's likeliest token may be a digit for ever."""


@pytest.mark.parametrize(("temperature", "chosen"), [(1.0, range(len(SCHEMAS))), (0.0, BOUNDED)])
def test_every_schema_gets_json_that_it_allows(tmp_path: Path, temperature: float, chosen: Sequence[int]):
    writer = Writer(tmp_path)
    rows = [
        writer.submit(str(number), grammar_of(JsonSchema(SCHEMAS[number])), SamplingParams(temperature, seed=number))
        for number in chosen
    ]
    answers = writer.run(rows)
    for number in chosen:
        assert answers[str(number)].last.finish_reason is FinishReason.STOP
        jsonschema.validate(json.loads(writer.text(answers[str(number)])), SCHEMAS[number])


@pytest.mark.parametrize("layout", [SerialLayout, PaddedLayout])
def test_patterns_choices_and_grammars_hold_in_every_layout(tmp_path: Path, layout: type):
    writer = Writer(tmp_path, layout)
    options = ("yes", "no", "perhaps \u00fc")
    answers = writer.run(
        [
            writer.submit("regex", grammar_of(Regex(r"\d{3}-[a-f]{2,5}/\w"))),
            writer.submit("choice", grammar_of(Choice(options))),
            writer.submit("lark", grammar_of(Grammar('start: "<" (start | "x") ">"'))),
            writer.submit("gbnf", grammar_of(Grammar('root ::= "a" | "b" root'))),
        ]
    )
    texts = {name: writer.text(answer) for name, answer in answers.items()}
    assert re.fullmatch(r"[0-9]{3}-[a-f]{2,5}/\w", texts["regex"])
    assert texts["choice"] in options
    assert re.fullmatch(r"<+x>+", texts["lark"])
    assert texts["lark"].count("<") == texts["lark"].count(">")
    assert re.fullmatch(r"b*a", texts["gbnf"])
    assert {answer.last.finish_reason for answer in answers.values()} == {FinishReason.STOP}


def test_a_model_may_stop_exactly_where_the_grammar_is_satisfied(tmp_path: Path):
    writer = Writer(tmp_path)
    row = writer.grammars.row(grammar_of(Regex("ab?")), writer.stops)
    a, b = (writer.token(letter) for letter in "ab")
    assert list(np.flatnonzero(row.allowed())) == [a]
    row.consume(a)
    assert set(np.flatnonzero(row.allowed())) == {b, *writer.stops}
    assert not row.is_complete
    row.consume(b)
    assert row.is_complete


def test_an_unconstrained_row_writes_the_same_beside_a_constrained_one(tmp_path: Path):
    writer = Writer(tmp_path)
    grammar = grammar_of(JsonSchema(SCHEMAS[11]))

    def free(neighbours: list[Submit]) -> list[int]:
        return writer.run([writer.submit("free", max_tokens=40), *neighbours])["free"].token_ids

    assert free([]) == free([writer.submit("held", grammar)])


def test_a_grammar_changes_no_bit_of_another_rows_choice(tmp_path: Path):
    writer = Writer(tmp_path)
    logits = mx.random.normal((3, writer.vocabulary), key=mx.random.key(3))

    def draw(grammar: str) -> list[int]:
        params = SamplingParams(temperature=0.9, top_p=0.95, seed=4)
        rows = [RowSampler.create(params, [], 0) for _ in range(3)]
        if grammar:
            rows[1].grammar = writer.grammars.row(grammar, writer.stops)
        return sample(logits, rows)

    plain, held = draw(""), draw(grammar_of(Choice(("q",))))
    assert (held[0], held[2]) == (plain[0], plain[2])
    assert held[1] == writer.token("q")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_drafted_answer_is_the_one_without_drafts(tmp_path: Path, temperature: float):
    writer = Writer(tmp_path)
    sampling = SamplingParams(temperature=temperature, seed=2)
    grammars = [
        Regex("(write(more| [a-c])){30}"),
        Choice(("write a long word",)),
        JsonSchema({"const": "write " * 20}),
    ]
    rows = [writer.submit(f"{n} write a", grammar_of(g), sampling) for n, g in enumerate(grammars)]
    drafted = writer.run(rows)
    slow = [msgspec.structs.replace(row, sampling=replace(sampling, logit_bias=((0, 0.0),))) for row in rows]
    plain = writer.run(slow)
    for row in rows:
        assert drafted[row.request_id].token_ids == plain[row.request_id].token_ids
        assert drafted[row.request_id].last.finish_reason is FinishReason.STOP
    assert any(len(update.token_ids) > 1 for answer in drafted.values() for update in answer.updates)
    assert all(len(update.token_ids) <= 1 for answer in plain.values() for update in answer.updates)


def test_a_draft_goes_as_far_as_the_grammar_and_leaves_no_trace(tmp_path: Path):
    writer = Writer(tmp_path)
    row = writer.grammars.row(grammar_of(Regex("ab{3}")), writer.stops)
    a, b = writer.token("a"), writer.token("b")
    assert row.expect([b]) == []
    assert row.expect([a, b, a]) == [a, b]
    row.feed([a, b])
    assert [list(np.flatnonzero(mask)) for mask in row.masks()] == [[a], [b], [b]]
    assert list(np.flatnonzero(row.allowed())) == [a]
    assert row.expect([a, b, b, b]) == [a, b, b]
    for token_id in (a, b, b, b):
        row.consume(token_id)
    assert row.is_complete


def test_a_rank_that_is_told_the_drafts_constrains_them_as_the_one_that_made_them(tmp_path: Path):
    writer = Writer(tmp_path)
    request = writer.submit("write a", grammar_of(Choice(("write a write a write a word",))), SamplingParams(0.0))
    leader, follower = writer.batch(), writer.batch()
    told: list[list[int]] = []
    for rank in (leader, follower):
        rank.open(request)
        told.append(rank.prefill(request.request_id, len(request.token_ids)))
    num_drafted = 0
    while told[0][-1] >= 0:
        drafts = leader.draft()
        num_drafted += len(drafts)
        told = [rank.decode(drafts)[request.request_id] for rank in (leader, follower)]
        assert told[0] == told[1]
    assert num_drafted


def test_an_answer_cut_by_its_limit_says_so(tmp_path: Path):
    writer = Writer(tmp_path)
    answer = writer.run([writer.submit("a", grammar_of(Regex("x{50}")), max_tokens=5)])["a"]
    assert writer.text(answer) == "xxxxx"
    assert answer.last.finish_reason is FinishReason.LENGTH


def test_an_answer_that_is_complete_at_its_limit_was_not_cut(tmp_path: Path):
    writer = Writer(tmp_path)
    answer = writer.run([writer.submit("a", grammar_of(Regex("x{5}")), max_tokens=5)])["a"]
    assert answer.last.finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}}']
)
def test_a_tokenizer_that_cannot_be_used_is_an_error_of_the_request(tmp_path: Path, content: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InvalidRequest, match="tokenizer cannot be held"):
        GrammarCompiler(tmp_path / "tokenizer.json", 300).row('start: "a"', [1])


def test_a_grammar_that_does_not_compile_ends_only_its_own_request(tmp_path: Path):
    writer = Writer(tmp_path)
    answers = writer.run([writer.submit("bad", "start: nothing"), writer.submit("good", grammar_of(Choice(("yes",))))])
    assert answers["bad"].last.error.startswith("invalid_request: the grammar cannot be compiled")
    assert writer.text(answers["good"]) == "yes"


def test_a_grammar_that_meets_a_limit_on_its_way_is_an_error_of_its_row(tmp_path: Path):
    writer = Writer(tmp_path)
    ambiguous = "start: a*\na: b | c\nb: /x{1,3}/ a?\nc: /[xy]{1,4}/ b?"
    rows = [writer.submit("hard", ambiguous, max_tokens=2000), writer.submit("free", max_tokens=10)]
    answers = writer.run(rows)
    assert len(answers["free"].token_ids) == 10
    last = answers["hard"].last
    assert last.finish_reason is not None or last.error.startswith("request_failed: the answer's grammar")


def test_many_grammars_do_not_pile_up(tmp_path: Path):
    writer = Writer(tmp_path)
    for number in range(400):
        writer.grammars.row(f'start: "{number}"', writer.stops)
    assert writer.grammars.num_compiled <= 32
