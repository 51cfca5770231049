"""DeepSeek V4 in the engine: rows of unequal length, decoded together, say what each says alone.

That answers after a hit are the cold ones is tested in tests/torture, for every kind of cache.
"""

from __future__ import annotations

import random

import pytest

from omlx.server.engine.layout_choice import choose_layout
from omlx.server.engine.messages import Submit, TokenLogprob
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.models.architectures.deepseek_v4 import Model

from ...engine.driving import Answer, drain, make_engine, step
from ...engine.tiny_model import GREEDY, VOCABULARY, make_batch
from .deepseek_v4_model import TOLERANCE, build
from .random_deepseek_v4 import CONFIGS

LENGTHS = (1, 3, 4, 5, 63, 64, 126, 127, 128, 129, 131, 132, 255, 256, 257, 260)
"""Around multiples of 4, of 128, and of the blocks of 256 the prefix cache is cut in."""


@pytest.fixture(scope="module")
def model() -> Model:
    """Two layers whose experts are looked up by token, and one whose are scored; one of each kind of attention."""
    model = build(CONFIGS["full"] | {"vocab_size": VOCABULARY, "num_hidden_layers": 3})
    assert ["tid2eid" in layer.ffn.gate for layer in model.layers] == [True, True, False]
    return model


def _batch(model: Model, max_bytes: int = 1 << 26) -> MlxBatch:
    return make_batch(model, choose_layout(model, model.make_cache).layout, max_bytes)


def _scores(answer: Answer) -> list[TokenLogprob]:
    return [score for update in answer.updates for score in update.logprobs]


def test_rows_of_different_length_decode_in_one_batch(model: Model) -> None:
    assert choose_layout(model, model.make_cache).batching.name == "padded"


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_that_come_and_go_say_what_each_says_alone(model: Model, seed: int) -> None:
    chance, answers, wanted = random.Random(seed), dict[str, Answer](), dict[str, Submit]()
    engine = make_engine(_batch(model), SchedulerLimits(max_num_seqs=5, max_chunk=100))
    for number, length in enumerate(chance.sample(LENGTHS, len(LENGTHS))):
        prompt = [chance.randrange(VOCABULARY) for _ in range(length)]
        request = Submit(f"r{number}", prompt, chance.randrange(1, 14), sampling=GREEDY, logprobs=0)
        engine.submit(request)
        for _ in range(chance.randrange(4)):
            step(engine, answers)
        if number % 5 == 4:
            engine.cancel(f"r{chance.randrange(number + 1)}")
        wanted[request.request_id] = request
    drain(engine, answers)
    finished = [name for name, answer in answers.items() if answer.last.finish_reason is not None]
    assert len(finished) > len(LENGTHS) // 2
    for name in finished:
        alone = make_engine(_batch(model, max_bytes=0))
        alone.submit(wanted[name])
        expected = _scores(drain(alone)[name])
        found = _scores(answers[name])
        assert [score.token_id for score in found] == [score.token_id for score in expected], name
        for score, other in zip(found, expected, strict=True):
            assert score.logprob == pytest.approx(other.logprob, abs=TOLERANCE), name
