"""Thinking ends where its budget does: alone, in a batch, ahead of the tokens, beside drafts and under a grammar."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from omlx.server.engine.constraints import ModelMarks, build_grammar
from omlx.server.engine.messages import Submit, ThinkingBudget
from omlx.server.engine.thinking import RowThinking
from omlx.server.parsers.selection import Formats
from omlx.server.requests import JsonSchema, SamplingParams

from .driving import drain, make_engine
from .grammar_model import Writer, request_for
from .tiny_model import GREEDY, greedy_solo, make_batch, tiny_llama

START, END = [88, 89], [90, 91]


def written(row: RowThinking, token_ids: list[int]) -> RowThinking:
    for token_id in token_ids:
        row.observe(token_id)
    return row


def test_only_what_stands_between_the_marks_counts():
    row = written(RowThinking(ThinkingBudget(2, START, END)), [1, 2, 3, *START])
    assert (row.forced, row.num_free) == (None, 1)
    assert written(row, [4]).num_free == 0
    assert written(row, [5]).forced == END[0]
    assert written(row, END[:1]).forced == END[1]
    assert (written(row, END[1:]).forced, row.num_free) == (None, sys.maxsize)


def test_thinking_begun_again_has_what_is_left():
    row = written(RowThinking(ThinkingBudget(3, START, END, is_open=True)), [4, 5, *END])
    assert row.forced is None
    assert written(row, [*START, 6]).forced == END[0]


def test_a_mark_that_the_model_has_begun_is_gone_on_with():
    row = written(RowThinking(ThinkingBudget(2, START, END, is_open=True)), [4, END[0]])
    assert row.forced == END[1]


def test_a_budget_of_nothing_closes_at_once():
    assert RowThinking(ThinkingBudget(0, START, END, is_open=True)).forced == END[0]


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_rows_of_a_batch_are_closed_at_their_own_budgets(runs_ahead: bool):
    model, prompt, count = tiny_llama(), [5, 6, 7, 8] * 6, 40
    engine = make_engine(make_batch(model, runs_ahead=runs_ahead))
    budgets = {"none": None, "one": 1, "six": 6, "twenty": 20, "plenty": 1000}
    for name, number in budgets.items():
        thinking = None if number is None else ThinkingBudget(number, START, END, is_open=True)
        engine.submit(Submit(name, prompt, count, sampling=GREEDY, thinking=thinking))
    answers = drain(engine)
    alone = greedy_solo(model, prompt, count)
    assert END[0] not in alone
    assert answers["none"].token_ids == answers["plenty"].token_ids == alone
    for name in ("one", "six", "twenty"):
        closed = [*alone[: budgets[name]], *END]
        rest = greedy_solo(model, [*prompt, *closed], count - len(closed))
        assert answers[name].token_ids == closed + rest


def test_under_a_grammar_the_answer_follows_the_closed_thinking(tmp_path: Path):
    writer = Writer(tmp_path, special=["<think>", "</think>"])
    marks = {mark: writer.token(mark) for mark in ("<think>", "</think>")}
    wanted = JsonSchema({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    wanted = JsonSchema({**wanted.schema, "additionalProperties": False})
    grammar = build_grammar(request_for(wanted), ModelMarks(Formats("hermes", "think"), marks), True)
    thinking = ThinkingBudget(30, [marks["<think>"]], [marks["</think>"]], is_open=True)
    rows = [
        Submit(
            f"r{seed}",
            writer.tokenizer.encode("write").ids,
            3000,
            writer.stops,
            SamplingParams(temperature=1.0, seed=seed),
            grammar=grammar,
            thinking=thinking,
        )
        for seed in range(4)
    ]
    for answer in writer.run(rows).values():
        place = answer.token_ids.index(marks["</think>"])
        assert place <= 33  # a character may have up to three bytes to go
        assert isinstance(json.loads(writer.tokenizer.decode(answer.token_ids[place + 1 :]).strip())["a"], bool)
