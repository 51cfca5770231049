"""The same on real models: what fails for one request leaves nothing behind, and the others write what they would."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from omlx.server.engine import mlx_batch, row
from omlx.server.engine.batch import BatchEngine
from omlx.server.engine.engine import MOST_FAILED, Engine
from omlx.server.engine.grammar import RowGrammar
from omlx.server.engine.messages import Submit, ThinkingBudget
from omlx.server.engine.sampling import RowSampler
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.engine.thinking import RowThinking
from omlx.server.errors import EngineFailure, Overloaded
from omlx.server.events import FinishReason
from omlx.server.requests import Regex, SamplingParams

from .driving import Answer, drain, make_engine, step
from .grammar_model import Writer, grammar_of
from .tiny_model import GREEDY, VOCABULARY, greedy_solo, make_batch, prompt_of, submit, tiny_llama

POISON = VOCABULARY - 1
"""No prompt of `prompt_of` with seed 2 has it."""
TALK = prompt_of(40, seed=2)[::-1]


def spoilt(length: int) -> list[int]:
    return [*prompt_of(length - 1, seed=2), POISON]


def refuse() -> mx.array:
    raise ValueError("a poison")


def misfit() -> mx.array:
    """MLX itself raises, at what it is to compute with this."""
    return mx.zeros((7, 3))


class Spoilt:
    """Runs the model on prompts, and fails at one that has the poison in it."""

    def __init__(self, model: Any, fail: Callable[[], mx.array] = refuse) -> None:
        self._model = model
        self.fail = fail

    def __call__(self, inputs: mx.array, cache: Any = None) -> mx.array:
        logits = self._model(inputs, cache=cache)
        rows: Any = inputs.tolist()
        return logits + self.fail() if POISON in rows[0] else logits


def thinking(name: str) -> Submit:
    return Submit(name, prompt_of(20), 8, sampling=GREEDY, thinking=ThinkingBudget(2, [1], [2], is_open=True))


def beside(batch: BatchEngine, bad: Submit) -> tuple[Engine, dict[str, Answer]]:
    """The bad request while another one decodes."""
    engine, answers = make_engine(batch, SchedulerLimits(max_chunk=256)), dict[str, Answer]()
    engine.submit(submit("talking", TALK, 12))
    for _ in range(3):
        step(engine, answers)
    engine.submit(bad)
    drain(engine, answers)
    return engine, answers


@pytest.mark.parametrize("fail", [refuse, misfit])
@pytest.mark.parametrize("runs_ahead", [False, True])
@pytest.mark.parametrize("length", [300, 700])
def test_a_prompt_that_cannot_be_computed_leaves_nothing_and_harms_nobody(
    fail: Callable[[], mx.array], runs_ahead: bool, length: int
):
    model = tiny_llama()
    run = Spoilt(model, fail)
    batch = make_batch(model, run=run, runs_ahead=runs_ahead)
    engine, answers = beside(batch, submit("bad", spoilt(length)))
    assert answers["talking"].token_ids == greedy_solo(model, TALK, 12)
    assert answers["bad"].last.error.startswith("request_failed: ")
    assert batch.match(submit("again", spoilt(length))) == length // 256 * 256
    run.fail = lambda: mx.array(0.0)
    engine.submit(submit("again", spoilt(length)))
    assert drain(engine, answers)["again"].token_ids == greedy_solo(model, spoilt(length), 8)
    assert not engine.idle()


@pytest.mark.parametrize("num_steps", [0, 3])
@pytest.mark.parametrize("runs_ahead", [False, True])
@pytest.mark.parametrize("temperature", [0, 1])
def test_an_answer_at_no_number_ends_with_that_error_and_nothing_is_kept_from_then_on(
    num_steps: int, runs_ahead: bool, temperature: float
):
    model: Any = tiny_llama()
    batch = make_batch(model, runs_ahead=runs_ahead)
    engine, answers = make_engine(batch), dict[str, Answer]()
    engine.submit(Submit("bad", prompt_of(20), 16, sampling=SamplingParams(temperature=temperature, seed=1)))
    for _ in range(num_steps):
        step(engine, answers)
    model.model.embed_tokens.weight *= mx.nan
    drain(engine, answers)
    bad = answers["bad"]
    assert bad.last.error.startswith("request_failed: the model came to no number (NaN)")
    assert num_steps <= len(bad.token_ids) <= num_steps + runs_ahead
    assert batch.match(submit("again", [*prompt_of(20), *bad.token_ids, 1])) == (20 if num_steps else 0)
    assert not engine.idle()


def test_an_engine_that_comes_to_no_number_again_and_again_is_to_blame():
    model: Any = tiny_llama()
    model.model.embed_tokens.weight *= mx.nan
    engine, answers = make_engine(make_batch(model)), dict[str, Answer]()
    for number in range(MOST_FAILED - 1):
        engine.submit(submit(f"r{number}", prompt_of(20, number)))
        drain(engine, answers)
    engine.submit(submit("last", prompt_of(20)))
    with pytest.raises(EngineFailure, match="requests in a row failed"):
        drain(engine, answers)


def test_of_short_prompts_in_one_pass_only_the_one_at_fault_fails(monkeypatch: pytest.MonkeyPatch):
    model = tiny_llama()
    original = row.Row.append

    def append(self: row.Row, token_ids: list[int]) -> None:
        if self.key == "bad" and self.num_computed:
            refuse()
        original(self, token_ids)

    monkeypatch.setattr(row.Row, "append", append)
    batch = make_batch(model)
    assert batch.takes_prompts_together
    engine = make_engine(batch)
    for number, name in enumerate(["first", "bad", "last"]):
        engine.submit(submit(name, prompt_of(20, number + 1)))
    answers = drain(engine)
    assert answers["bad"].last.error.startswith("request_failed: ")
    for number, name in [(1, "first"), (3, "last")]:
        assert answers[name].token_ids == greedy_solo(model, prompt_of(20, number), 8)
    assert not engine.idle()


@pytest.mark.parametrize("place", ["check_tokens", "RowSampler", "RowThinking", "restore"])
def test_a_row_that_cannot_be_made_harms_nobody(monkeypatch: pytest.MonkeyPatch, place: str):
    model = tiny_llama()
    batch = make_batch(model)

    def fail(*_: object) -> None:
        raise TypeError("a bug")

    if place == "RowSampler":
        monkeypatch.setattr(RowSampler, "create", fail)
    elif place == "restore":
        monkeypatch.setattr(batch._codec, "restore", fail)
    else:
        monkeypatch.setattr(mlx_batch, place, fail)
    engine = make_engine(batch)
    engine.submit(submit("bad", prompt_of(20)) if place != "RowThinking" else thinking("bad"))
    assert drain(engine)["bad"].last.error.startswith("request_failed: ")
    monkeypatch.undo()
    engine.submit(submit("good", prompt_of(20)))
    assert drain(engine)["good"].token_ids == greedy_solo(model, prompt_of(20), 8)


@pytest.mark.parametrize("part", ["penalties", "thinking", "logprobs"])
@pytest.mark.parametrize("runs_ahead", [False, True])
def test_what_a_row_needs_for_itself_fails_in_a_step_of_all_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str, runs_ahead: bool
):
    model, calls = tiny_llama(), 0

    def fail_later(*_: object) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise TypeError("a bug")

    bad = submit("bad", prompt_of(30, seed=2), 100)
    if part == "penalties":
        bad = Submit("bad", bad.token_ids, 100, sampling=SamplingParams(temperature=0, presence_penalty=1.0))
        monkeypatch.setattr("omlx.server.engine.sampling._Penalties.observe", fail_later)
    elif part == "thinking":
        bad = thinking("bad")
        monkeypatch.setattr(RowThinking, "observe", fail_later)
    else:
        bad = Submit("bad", bad.token_ids, 100, sampling=GREEDY, logprobs=2)
        original = row.token_logprobs
        monkeypatch.setattr(row, "token_logprobs", lambda *given: fail_later() or original(*given))
    engine, answers = beside(make_batch(model, runs_ahead=runs_ahead), bad)
    assert answers["talking"].token_ids == greedy_solo(model, TALK, 12)
    assert answers["bad"].last.error.startswith("request_failed: the engine failed at choosing")
    assert len(answers["bad"].token_ids) == 3
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert "bad" in record.getMessage()
    assert not engine.idle()


@pytest.mark.parametrize("method", ["allowed", "consume", "is_complete"])
def test_a_grammar_that_breaks_in_a_step_of_all_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
):
    writer, calls = Writer(tmp_path), 0
    original: Any = RowGrammar.__dict__[method]

    def breaks(self: RowGrammar, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise RuntimeError("a bug")
        return original.fget(self) if method == "is_complete" else original(self, *given)

    held, free = writer.submit("held", grammar_of(Regex("[a-z]{50}"))), writer.submit("free", max_tokens=40)
    alone = writer.run([free])["free"].token_ids
    monkeypatch.setattr(RowGrammar, method, property(breaks) if method == "is_complete" else breaks)
    answers = writer.run([held, free])
    assert answers["held"].last.error.startswith("request_failed: ")
    assert answers["free"].token_ids == alone
    assert answers["free"].last.finish_reason is FinishReason.LENGTH


def test_a_grammar_that_there_is_no_memory_for_now_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_: object) -> None:
        raise Overloaded("there is no memory for this grammar now")

    writer = Writer(tmp_path)
    held, free = writer.submit("held", grammar_of(Regex("[a-z]{50}"))), writer.submit("free", max_tokens=40)
    monkeypatch.setattr("omlx.server.engine.grammar.on_deep_stack", fail)
    answers = writer.run([free, held])
    assert answers["held"].last.error.startswith("overloaded: ")
    assert len(answers["free"].token_ids) == 40


def test_several_ranks_contain_nothing_since_the_others_would_have_to_know():
    class Two:
        rank, size = 0, 2

        def gather(self, value: int) -> list[int]:
            return [value, value]

        def share(self, tokens: mx.array) -> mx.array:
            return tokens

    model = tiny_llama()
    batch = make_batch(model, run=Spoilt(model))
    batch._ranks = Two()
    engine = make_engine(batch)
    engine.submit(submit("bad", spoilt(20)))
    with pytest.raises(ValueError, match="a poison"):
        drain(engine)


def test_a_lost_device_ends_the_engine(monkeypatch: pytest.MonkeyPatch):
    model = tiny_llama()

    def answers_no_more(*_: object) -> None:
        raise RuntimeError("the device is lost")

    def lost() -> mx.array:
        monkeypatch.setattr(mx, "eval", answers_no_more)
        raise RuntimeError("no kernel")

    engine = make_engine(make_batch(model, run=Spoilt(model, lost)))
    engine.submit(submit("bad", spoilt(20)))
    with pytest.raises(RuntimeError, match="the device is lost"):
        drain(engine)
