"""Log probabilities are the model's own, whatever else happens to a row."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.engine.logprobs import token_logprobs
from omlx.server.engine.messages import Submit, TokenLogprob
from omlx.server.requests import SamplingParams

from .driving import Answer, drain, make_engine
from .tiny_model import GREEDY, greedy_solo, make_batch, prompt_of, tiny_llama


def asked(name: str, prompt: list[int], sampling: SamplingParams = GREEDY, echo: bool = False) -> Submit:
    return Submit(name, prompt, 12, sampling=sampling, logprobs=3, prompt_logprobs=echo)


def of_model(token_ids: list[int]) -> np.ndarray:
    """What the model gives every next token, from one pass: shape [tokens, vocabulary]."""
    model = tiny_llama()
    logits = np.array(model(mx.array([token_ids]), cache=make_prompt_cache(model))[0], np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def all_logprobs(answer: Answer) -> list[TokenLogprob]:
    return [score for update in answer.updates for score in update.logprobs]


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=1.5, seed=3, presence_penalty=1.0, top_k=20)])
@pytest.mark.parametrize("runs_ahead", [False, True])
def test_each_token_comes_with_what_the_model_gave_it(sampling: SamplingParams, runs_ahead: bool):
    prompt = prompt_of(40)
    engine = make_engine(make_batch(tiny_llama(), runs_ahead=runs_ahead))
    engine.submit(asked("a", prompt, sampling))
    engine.submit(Submit("other", prompt_of(30, 2), 12, sampling=GREEDY))
    answers = drain(engine)

    scores = all_logprobs(answers["a"])
    expected = of_model(prompt + answers["a"].token_ids)[len(prompt) - 1 : -1]
    assert [score.token_id for score in scores] == answers["a"].token_ids
    for score, row in zip(scores, expected, strict=True):
        assert score.logprob == pytest.approx(row[score.token_id], abs=1e-4)
        assert [token_id for token_id, _ in score.top] == list(np.argsort(-row)[:3])
        assert [value for _, value in score.top] == pytest.approx(sorted(row, reverse=True)[:3], abs=1e-4)
    assert all_logprobs(answers["other"]) == []


def test_drafted_tokens_have_theirs_too():
    prompt = [5, 6, 7, 8] * 12
    engine = make_engine(make_batch(tiny_llama()))
    engine.submit(Submit("a", prompt, 60, sampling=GREEDY, logprobs=0))
    answer = drain(engine)["a"]

    expected = of_model(prompt + answer.token_ids)[len(prompt) - 1 : -1]
    assert max(len(update.token_ids) for update in answer.updates) > 1, "no draft was taken"
    assert [score.logprob for score in all_logprobs(answer)] == pytest.approx(
        [row[token_id] for token_id, row in zip(answer.token_ids, expected, strict=True)], abs=1e-4
    )


def test_the_stop_token_is_not_among_them():
    prompt = prompt_of(20)
    stop = greedy_solo(tiny_llama(), prompt, 5)[4]
    engine = make_engine(make_batch(tiny_llama()))
    engine.submit(Submit("a", prompt, 12, [stop], GREEDY, logprobs=0))
    answer = drain(engine)["a"]

    assert [score.token_id for score in all_logprobs(answer)] == answer.token_ids


@pytest.mark.parametrize("length", [1, 2, 300, 600])
def test_a_prompts_tokens_are_scored_from_its_beginning_though_it_is_cached(length: int):
    prompt = prompt_of(length)
    engine = make_engine(make_batch(tiny_llama()))
    engine.submit(Submit("warm", prompt, 2, sampling=GREEDY))
    drain(engine)
    engine.submit(asked("a", prompt, echo=True))
    answer = drain(engine)["a"]

    (scores,) = [update.prompt_logprobs for update in answer.updates if update.prompt_logprobs]
    assert any(update.prompt_logprobs and update.token_ids for update in answer.updates)
    expected = of_model(prompt)
    assert [score.token_id for score in scores] == prompt
    assert scores[0].logprob is None
    assert [score.logprob for score in scores[1:]] == pytest.approx(
        [row[token_id] for token_id, row in zip(prompt[1:], expected, strict=False)], abs=1e-4
    )
    assert answer.last.num_cached_tokens == 0


def test_nothing_is_asked_of_the_likeliest_but_what_there_is():
    (score,) = token_logprobs(mx.array([[0.0, 0.0]]), [1], 20)

    assert score.logprob == pytest.approx(np.log(0.5))
    assert len(score.top) == 2
